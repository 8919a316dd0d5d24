//! How far ahead the peer may send, changed while the connection lives (RFC 9113 6.5.3, 6.9.2).

use super::{Endpoint, Fault, Settings, settings::INITIAL_WINDOW, wire::kind};

/// Changes between two calls of [`Endpoint::forgive`], after which windows only shrink: to a peer, each is a frame that
/// moves nothing.
const CHANGES: u32 = 500;
/// So much is never reached: it keeps sums of windows within their 32 bits.
const MOST_LENT: u32 = 1 << 30;
/// Intervals that the peer may take to acknowledge.
const PATIENCE: u32 = 2;

/// Which of our SETTINGS the peer has not acknowledged: one at a time.
#[derive(Debug)]
pub(super) struct Awaited {
    what: What,
    /// Since the last call of [`Endpoint::forgive`].
    changes: u32,
    /// Calls of it since they were sent.
    intervals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Those a connection begins with.
    Greeting,
    /// Another window for every stream.
    Window(u32),
    Nothing,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            what: What::Greeting,
            changes: 0,
            intervals: 0,
        }
    }
}

impl Awaited {
    /// An interval is over; whether the peer has taken too long.
    pub(super) fn is_overdue(&mut self) -> bool {
        self.changes = 0;
        if self.what == What::Nothing {
            return false;
        }
        self.intervals += 1;
        self.intervals > PATIENCE
    }
}

impl<T> Endpoint<T> {
    /// Bytes received and not passed on yet, on all streams together.
    pub(in crate::hbone) fn unread(&self) -> usize {
        usize::try_from(self.unread).unwrap_or(usize::MAX)
    }

    /// Lets the peer send `window` bytes ahead on every stream, also on those that are open: what it may still send
    /// changes by the difference, and may be less than nothing. Says whether that is in force; else it is to be asked
    /// for again.
    pub(in crate::hbone) fn allow(&mut self, window: u32) -> bool {
        let before = self.settings.stream_window;
        if self.awaited.what != What::Nothing {
            return false;
        }
        if window == before {
            return true;
        }
        if window > before && self.awaited.changes >= CHANGES {
            return false;
        }
        self.frame(kind::SETTINGS, 0, 0, &Settings::window(window));
        self.awaited.what = What::Window(window);
        self.awaited.changes += 1;
        self.awaited.intervals = 0;
        // More may be used as soon as the peer reads of it, less once it says that it has.
        if window > before {
            self.resize(window);
        }
        false
    }

    fn resize(&mut self, window: u32) {
        self.settings.stream_window = window;
        for stream in self.streams.values_mut() {
            stream.receive.resize(window);
        }
    }

    /// The peer knows of what we told it.
    pub(super) fn acknowledged(&mut self) -> Result<(), Fault> {
        match std::mem::replace(&mut self.awaited.what, What::Nothing) {
            What::Greeting => {}
            What::Window(window) => self.resize(window),
            What::Nothing => return self.nuisance(),
        }
        self.awaited.intervals = 0;
        Ok(())
    }

    /// Gives the peer credit on the connection for what is unread beyond half its window, so that streams which nobody
    /// reads do not use up what the others need. To be called only while the streams' own windows bound what that may
    /// come to.
    pub(in crate::hbone) fn lend(&mut self) {
        let more = self.unread_beyond().saturating_sub(self.lent);
        if more < self.nominal() / 8 || more == 0 {
            return;
        }
        self.lent += more;
        self.receive.resize(self.nominal() + self.lent);
        self.frame(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    }

    /// Credit of the connection that nobody will release otherwise; what was lent is not lent again.
    pub(super) fn give_back(&mut self, bytes: u32) {
        let kept = bytes.min(self.lent.saturating_sub(self.unread_beyond()));
        self.lent -= kept;
        self.receive.keep(kept);
        // Told at a quarter: the peer may have no more than another left.
        if let Some(raise) = self.receive.release(bytes - kept, self.nominal() / 2) {
            self.frame(kind::WINDOW_UPDATE, 0, 0, &raise.to_be_bytes());
        }
    }

    /// The connection's window without what was lent.
    fn nominal(&self) -> u32 {
        self.settings.window.max(INITIAL_WINDOW)
    }

    fn unread_beyond(&self) -> u32 {
        self.unread.saturating_sub(self.nominal() / 2).min(MOST_LENT)
    }
}
