//! Bodies on their way: streamed, counted, never held.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use decide::model::Refusal;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{tale::Tale, upstream::Lease};

/// A request's body on its way to the server.
pub(crate) struct Upload {
    from: Option<Incoming>,
    count: Arc<AtomicU64>,
}

/// A response's body on its way to the client. When it ends, so does the request's tale, and the connection it
/// came on goes back to the pool.
pub(crate) struct Download {
    from: Source,
    tale: Option<Box<Tale>>,
    lease: Option<Lease>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

enum Source {
    Words(Full<Bytes>),
    Server(Incoming),
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokeOff {
    /// The server broke off.
    #[error("the server broke off: {0}")]
    Server(#[from] hyper::Error),
    /// The route's timeout passed.
    #[error("the request took longer than its route allows")]
    Late,
}

impl Upload {
    /// Passes on what the client sends; `count` grows with it.
    pub(crate) fn new(from: Incoming, count: Arc<AtomicU64>) -> Self {
        Self {
            from: Some(from),
            count,
        }
    }

    /// No body.
    pub(crate) fn none(count: Arc<AtomicU64>) -> Self {
        Self { from: None, count }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(from) = &mut this.from else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(from).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            this.count.fetch_add(length(frame), Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.from.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.from
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Download {
    /// Words of our own.
    pub(crate) fn words(words: String, tale: Box<Tale>) -> Self {
        Self {
            from: Source::Words(Full::from(words)),
            tale: Some(tale),
            lease: None,
            deadline: None,
            ended: false,
        }
    }

    /// What the server sends, until `deadline`.
    pub(crate) fn server(from: Incoming, tale: Box<Tale>, lease: Option<Lease>, deadline: Option<Instant>) -> Self {
        Self {
            from: Source::Server(from),
            tale: Some(tale),
            lease,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            ended: false,
        }
    }

    /// Nothing: the connection becomes something else, and its tale is told there.
    pub(crate) fn nothing() -> Self {
        Self {
            from: Source::Words(Full::default()),
            tale: None,
            lease: None,
            deadline: None,
            ended: true,
        }
    }

    fn broke_off(&mut self, refusal: impl FnOnce(&Tale) -> Refusal) {
        if let Some(tale) = &mut self.tale {
            tale.record.refusal = Some(refusal(tale));
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let this = &mut *self;
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            this.broke_off(|_| Refusal::DeadlineExceeded("the route's request timeout".into()));
            return Poll::Ready(Some(Err(BrokeOff::Late)));
        }
        let frame = ready!(match &mut this.from {
            Source::Words(words) => Pin::new(words).poll_frame(context).map_err(|never| match never {}),
            Source::Server(from) => Pin::new(from).poll_frame(context).map_err(BrokeOff::Server),
        });
        match &frame {
            Some(Ok(frame)) => {
                if let Some(tale) = &mut this.tale {
                    tale.received += length(frame);
                }
            }
            Some(Err(error)) => {
                let why: Arc<str> = error.to_string().into();
                this.broke_off(|tale| Refusal::ConnectFailed(tale.endpoint(), why));
            }
            None => this.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            Source::Words(words) => words.is_end_stream(),
            Source::Server(from) => from.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            Source::Words(words) => words.size_hint(),
            Source::Server(from) => from.size_hint(),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take()
            && (self.ended || self.is_end_stream())
        {
            lease.give_back();
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
