//! The names that nobody but the mesh can answer: hosts of an ExternalService with virtual addresses. Comes in: what
//! the pod asks of whatever name server it uses. Goes out: our answer to those names; everything else, byte for byte,
//! to the server it was sent to, and that server's answer. Never: a resolver of our own, a search list, a cache.
//!
//! ```text
//! pod -> 10.96.0.10:53, UDP   marked, routed over lo and given to 15053 (capture::rules), while we say that we live
//! pod -> 10.96.0.10:53, TCP   as every connection, through 15001; looked at before it goes on
//! ```

mod flows;
pub mod fuzzing;
mod inbox;
mod message;
#[cfg(test)]
mod payments;
mod server;
mod sockets;
mod stream;

pub use inbox::Inbox;
pub use server::{Names, serve};
pub use stream::serve as serve_stream;
