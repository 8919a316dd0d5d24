//! One stream of a tunnel as its user sees it: what came in, how it ended, and who waits for either.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Waker},
};

use bytes::BytesMut;
use http::Response;

use super::{StreamError, frames::Reason, passage::Passage};

/// Chunks below this are added to while they wait: many small ones would cost more memory than the window,
/// which counts only their bytes, lets on.
const SMALL: usize = 4096;

/// One stream as its user sees it.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What came in and nobody has taken.
    pub(super) queue: VecDeque<BytesMut>,
    /// The peer has sent its last.
    pub(super) ended: bool,
    pub(super) broken: Option<Broke>,
    /// The peer's answer.
    pub(super) answer: Option<Box<Response<()>>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// It may send so many bytes.
    pub(super) granted: usize,
    /// It stands in line.
    pub(super) queued: bool,
    /// Nobody reads it any more.
    pub(super) deaf: bool,
    /// The socket that what comes in is written to.
    pub(super) outlet: Option<Arc<Passage>>,
    /// Why that socket took no more.
    pub(super) failed: Option<io::Error>,
}

/// How a stream ended before its end.
#[derive(Debug, Clone)]
pub(super) enum Broke {
    Reset(Reason),
    Tunnel(Arc<str>),
}

impl From<Broke> for StreamError {
    fn from(broke: Broke) -> Self {
        match broke {
            Broke::Reset(Reason::NO_ERROR) => Self::Enough,
            Broke::Reset(reason) => Self::Reset(reason.to_string().into()),
            Broke::Tunnel(why) => Self::Tunnel(why),
        }
    }
}

impl Flow {
    pub(super) fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// Bytes that came in and nobody has taken.
    pub(super) fn unread(&self) -> usize {
        self.queue.iter().map(BytesMut::len).sum()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self.queue.back_mut() {
            Some(last) if last.len() < SMALL => last.extend_from_slice(bytes),
            _ => self.queue.push_back(bytes.into()),
        }
    }
}

/// Has a later wake reach this task.
pub(super) fn remember(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
}

/// Wakes who waits, if anybody does.
pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
