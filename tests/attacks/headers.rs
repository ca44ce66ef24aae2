//! Headers meant to be believed by the server behind the gateway.
