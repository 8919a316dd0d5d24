//! ZDS, the protocol by which a node agent gives pods to a ztunnel (`istio.workload.zds`, `wire.md` §1.9):
//! one protobuf message per packet of a Unix SEQPACKET socket, the pod's network namespace as a descriptor
//! beside it, every request answered before the next. The agent listens, the ztunnel connects.
//! Never: what a pod becomes (`node`), or when one is announced (`capture`).

mod agent;
mod client;
pub mod fuzzing;
mod message;
mod packet;
mod socket;

pub use agent::{Announced, Announcements, listen};
pub use client::{Pods, connect};
pub use message::{MAX_PACKET, Malformed, Pod, Request, Response};
pub use packet::{Listener, Packets, ROOM, Received};
pub use socket::{ListenError, SocketFile, bind};

#[cfg(test)]
mod tests;
