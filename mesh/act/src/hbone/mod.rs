//! HBONE: tunnels (HTTP/2 over mutual TLS) and the streams in them (one CONNECT each). Client pool, server,
//! and the relay between a stream and a socket. Never: decisions.
