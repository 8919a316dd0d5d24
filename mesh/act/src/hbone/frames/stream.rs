//! One stream as its connection sees it (RFC 9113 5.1).

use super::{settings::Allowed, window::Window};

/// A stream that its user has not forgotten yet, over or not.
#[derive(Debug)]
pub(super) struct Stream<T> {
    /// What we may still send on it; below zero after the peer lowered it.
    pub(super) send: i64,
    /// What the peer may still send on it.
    pub(super) receive: Window,
    /// Received, and not passed on yet.
    pub(super) unreleased: u32,
    /// We may send no more.
    pub(super) ended_here: bool,
    /// The peer may send no more.
    pub(super) ended_there: bool,
    /// Its head came in: the request's on a server, the final response's on a client.
    pub(super) headed: bool,
    /// Our answer went out.
    pub(super) answered: bool,
    /// Who reset it, if anybody did.
    pub(super) reset: Option<By>,
    /// What its user keeps with it.
    pub(super) user: T,
}

/// Who reset a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// We: what the peer sent before it knew is ignored.
    Us,
    /// The peer: it may send nothing more.
    Peer,
}

impl<T> Stream<T> {
    pub(super) fn new(allowed: &Allowed, window: u32, user: T) -> Self {
        Self {
            send: i64::from(allowed.window),
            receive: Window::new(window),
            unreleased: 0,
            ended_here: false,
            ended_there: false,
            headed: false,
            answered: false,
            reset: None,
            user,
        }
    }

    /// Whether nothing moves on it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.reset.is_some() || (self.ended_here && self.ended_there)
    }
}
