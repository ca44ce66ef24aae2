//! HTTP/2 frames that no honest client sends.
