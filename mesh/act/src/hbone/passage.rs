//! The socket at the end of a stream, shared by the relay and by the driver that writes to it.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::patience::Progress;

/// A socket, and what went through it. Reset when dropped, unless its connection came to its proper end.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) socket: TcpStream,
    pub(super) progress: Progress,
    closed: AtomicBool,
}

impl Passage {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            progress: Progress::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The connection came to its proper end.
    pub(super) fn settle(&self) {
        self.closed.store(true, Relaxed);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.closed.load(Relaxed) {
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
