//! Clients that take their time, by the hundred, while others are served.
