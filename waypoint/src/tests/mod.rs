//! A whole waypoint in this process: real sockets on loopback, real certificates, real servers behind.

mod limits;
mod opaque_bytes;
mod outside;
mod requests;
mod routing;
mod servers;
mod world;
