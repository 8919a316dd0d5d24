//! The end of a connection whose peer broke the protocol. Closed with bytes of the peer's unread, a socket sends a reset,
//! and that takes from the peer what we said last: why. So what still comes is read over for a moment.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{socket::scratch, transport::Wire};

/// How long the peer has to hear why.
const MOMENT: Duration = Duration::from_secs(1);
/// What is read over, in bytes: as much as a peer may have had under way, and then some.
const MOST: usize = 16 << 20;

/// What is left to do.
pub(super) struct Parting {
    why: Arc<str>,
    end: Pin<Box<Sleep>>,
    left: usize,
    said: bool,
    shut: bool,
}

impl Parting {
    /// Nothing is done yet.
    pub(super) fn new(why: Arc<str>) -> Self {
        Self {
            why,
            end: Box::pin(sleep(MOMENT)),
            left: MOST,
            said: false,
            shut: false,
        }
    }

    /// Ready with the reason once the peer has left, or the moment is over. What is to be said is in `wire` already.
    pub(super) fn poll(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<Arc<str>> {
        let over = self.end.as_mut().poll(context).is_ready();
        match self.go_on(wire, context) {
            Poll::Pending if !over => Poll::Pending,
            _ => Poll::Ready(self.why.clone()),
        }
    }

    /// Says what is left to say, and reads over what comes.
    fn go_on(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.said, true) {
            wire.close()?;
        }
        if !self.shut {
            ready!(wire.poll_flush(context))?;
            ready!(wire.poll_shutdown(context))?;
            self.shut = true;
        }
        while self.left > 0 {
            let read = scratch(|scratch| wire.poll_skip(context, scratch));
            match ready!(read)? {
                0 => break,
                read => self.left = self.left.saturating_sub(read),
            }
        }
        Poll::Ready(Ok(()))
    }
}
