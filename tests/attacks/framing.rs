//! Framing of HTTP/1.1: never two requests for one, never a byte of a body taken for a header.
