//! HBONE: tunnels (HTTP/2 over mutual TLS) and the streams in them (one CONNECT each). Client pool, server,
//! and the relay between a stream and a socket. Never: decisions.
//!
//! Everything above a [`Stream`] knows only chunks in, chunks out, credit and reset, so that the frames below
//! it can be read and written by other code one day.

mod budget;
mod client;
mod connect;
mod io;
mod keepalive;
mod options;
mod patience;
mod pipe;
mod plain;
mod pool;
mod relay;
mod server;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod turn;

pub use budget::{Budget, Held, LEAST};
pub use client::Transport;
pub use connect::{Connect, Traceparent, baggage, printable};
pub use io::StreamIo;
pub use options::TunnelOptions;
pub use patience::Patience;
pub use plain::relay_plain;
pub use pool::{Key, Pool, PoolOptions, TUNNELS, Target};
pub use relay::relay;
pub use server::{Incoming, Tunnel};
pub use stream::{Receiver, Sender, Stream, StreamError};
