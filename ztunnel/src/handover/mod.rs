//! Socket hand-over between the ztunnels of a node (design 17): a younger one takes the listening sockets of each pod
//! from its elders, so that no connection that waits to be accepted is lost. Comes in: pods to be served. Goes out:
//! their listeners, and who accepts on them. Never: what becomes of a connection.
//!
//! Every ztunnel listens on a socket of its own in one directory and asks all that were there before it: one message
//! per packet (SEQPACKET, as ZDS), every request answered before the next, same user only.
//!
//! ```text
//! per pod   Want -> Offer (descriptors) . the younger accepts . Taken -> the elder stops accepting, GOAWAY
//! at last   Done -> Ok: the elder accepts for no pod any more, and is no longer ready
//! ```
//!
//! An elder keeps the sockets it handed over, and accepts on them again when the younger one is gone, however it went.
//! A younger one that is asked to stop while an elder stays gives everything back (Leave). So one rule covers every
//! order of starts and deaths: a ztunnel accepts for a pod unless a younger one that lives has said that it does.

mod elders;
mod heirs;
mod message;
mod place;
mod serve;

pub use elders::{Elders, Handed};
pub use heirs::Heirs;
pub use message::{Answer, Malformed, Request};
pub use place::{Place, PlaceError};
pub use serve::{Heritage, serve};

#[cfg(test)]
mod tests;
