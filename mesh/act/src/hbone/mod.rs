//! HBONE: tunnels (HTTP/2 over mutual TLS) and the streams in them (one CONNECT each). Client pool, server,
//! and the relay between a stream and a socket. Never: decisions.
//!
//! ```text
//! socket - transport (records opened and sealed) - driver - frames (HTTP/2, pure) - core - streams - relay - socket
//! ```
//!
//! One task per tunnel, the driver, reads and writes large, once in a round of the runtime's loop. It writes what
//! came in straight to the socket at the end of a stream; a relay reads that socket straight into what the tunnel
//! will send.

mod bounds;
mod budget;
mod buffers;
mod client;
mod connect;
mod core;
mod driver;
mod flow;
mod foreign;
mod frames;
pub mod fuzzing;
mod intake;
mod io;
mod keepalive;
mod load;
mod options;
mod parting;
mod passage;
mod patience;
mod pipe;
mod plain;
mod pool;
mod pressure;
mod relay;
mod server;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod transport;
mod turn;

pub use bounds::{AHEAD, BUFFERED, HEAD, STREAMS, TUNNELS, UNREAD};
pub use budget::{Budget, Held, LEAST};
pub use connect::{Connect, Traceparent, baggage, printable};
pub use io::StreamIo;
pub use options::TunnelOptions;
pub use patience::Patience;
pub use plain::relay_plain;
pub use pool::{Key, Pool, PoolOptions, Target};
pub use relay::relay;
pub use server::{Incoming, Tunnel};
pub use stream::{Receiver, Sender, Stream, StreamError};
pub use transport::Transport;
