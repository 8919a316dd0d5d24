//! HTTP/2 as HBONE needs it (RFC 9113, RFC 7541), pure: bytes come in and events go out; commands come in and
//! bytes to send collect in an [`Outbox`]. Never: sockets, clocks, randomness, tasks.
//!
//! CONNECT is all that is asked for and served. Whatever else a peer may lawfully send is taken for what it is,
//! and what is not lawful ends the stream or the connection, as the RFC says.

mod commands;
mod credit;
mod decoder;
mod encoder;
mod endpoint;
mod head;
mod heads;
mod huffman;
mod input;
mod outbox;
mod reason;
mod receive;
mod settings;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod window;
mod wire;

pub(super) use endpoint::{Endpoint, Event, Fault};
pub(super) use head::Head;
pub(super) use outbox::Outbox;
pub(super) use reason::Reason;
pub(super) use settings::{Settings, Side};
