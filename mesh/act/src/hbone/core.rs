//! What the driver of a tunnel and the users of its streams share: the frames, what each stream waits for, and
//! whose turn it is to send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use super::{
    STREAMS, StreamError, TunnelOptions, buffers,
    flow::{Broke, Flow, remember, wake},
    foreign::{Foreign, Malformed},
    frames::{Endpoint, Event, Head, Outbox, Reason, Side},
    load::{Load, WORTHWHILE},
};

/// What one stream may send before the next in line has its turn, in bytes.
pub(super) const QUANTUM: usize = 64 * 1024;
/// What is worth a record and a packet of its own, in bytes.
const FULL: usize = 16 * 1024;
/// The payload of a PING that asks for a sign of life, and of one that says that a GOAWAY has been read.
pub(super) const ALIVE: [u8; 8] = *b"weftping";
const LEAVING: [u8; 8] = *b"weftgone";

/// Shared by a tunnel's driver and its streams.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    /// The peer answered a PING.
    pub(super) alive: Notify,
}

/// The state of a tunnel.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) endpoint: Endpoint<Flow>,
    /// Streams that the peer opened and nobody has taken yet.
    pub(super) accepted: VecDeque<(u32, Head)>,
    /// Those that ask for something else than CONNECT, and have not said all of it.
    pub(super) foreign: Foreign,
    driver: Option<Waker>,
    /// The driver runs, or will.
    awake: bool,
    /// Streams that wait for their turn to send, first come first served.
    turns: VecDeque<u32>,
    /// Bytes that streams may send by turns they have.
    granted: usize,
    pub(super) load: Load,
    /// How often streams have added to what is to be sent.
    sent: usize,
    /// The tunnel ends when its last stream does.
    pub(super) leaving: bool,
    /// Why it has ended.
    ended: Option<Arc<str>>,
}

impl Shared {
    /// One side of a tunnel.
    pub(super) fn new(side: Side, options: &TunnelOptions) -> Arc<Self> {
        Self::over(Endpoint::new(side, options.frames(side)), options)
    }

    pub(super) fn over(endpoint: Endpoint<Flow>, options: &TunnelOptions) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(Core {
                endpoint,
                accepted: VecDeque::new(),
                foreign: Foreign::default(),
                driver: None,
                awake: true,
                turns: VecDeque::new(),
                granted: 0,
                load: Load::new(options),
                sent: 0,
                leaving: false,
                ended: None,
            }),
            alive: Notify::new(),
        })
    }

    /// Held by one thread at a time as a rule: a tunnel and its streams live on one worker.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// The driver runs now.
    pub(super) fn begin_round(&mut self, context: &Context<'_>) {
        self.awake = true;
        remember(&mut self.driver, context);
    }

    /// The driver waits from now on, unless a stream on another thread gave it something to send just now. `blocked`:
    /// bytes on their way that the connection does not take.
    pub(super) fn end_round(&mut self, blocked: Option<usize>) {
        self.load
            .blocked(blocked.map_or(0, |bytes| bytes + self.endpoint.out.len()));
        self.settle();
        self.awake = false;
        if blocked.is_none() && !self.endpoint.out.is_empty() {
            self.kick();
        }
    }

    /// Counts what waits here, and has the peer send less ahead the more that is.
    fn settle(&mut self) {
        let window = self.load.settle(self.endpoint.unread());
        if let refused @ 1.. = std::mem::take(&mut self.endpoint.turned_away) {
            STREAMS.hit(refused);
        }
        if self.endpoint.allow(window) {
            self.endpoint.lend();
        }
    }

    fn recount(&mut self) {
        self.load.recount(self.endpoint.unread());
    }

    /// Bytes of a stream were passed on.
    pub(super) fn release(&mut self, number: u32, bytes: usize) {
        self.endpoint.release(number, bytes);
        self.recount();
    }

    /// Has the driver look at what is to be sent, once in this round of the runtime's loop.
    pub(super) fn kick(&mut self) {
        if !std::mem::replace(&mut self.awake, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    /// Why the tunnel has ended, if it has.
    pub(super) fn ended(&self) -> Option<&Arc<str>> {
        self.ended.as_ref()
    }

    /// Whether nothing will come of it any more.
    pub(super) fn is_done(&self) -> bool {
        self.leaving && self.endpoint.streams() == 0
    }

    /// The tunnel has ended: every stream is broken.
    pub(super) fn fail(&mut self, why: &Arc<str>) {
        self.ended.get_or_insert_with(|| why.clone());
        self.accepted.clear();
        self.foreign.clear();
        for (_, flow) in self.endpoint.users() {
            flow.broken.get_or_insert_with(|| Broke::Tunnel(why.clone()));
            flow.wake();
        }
    }

    /// Asks the peer to open no more streams; the tunnel ends with the last one.
    pub(super) fn drain(&mut self) {
        self.endpoint.announce_leaving();
        self.endpoint.ping(LEAVING);
        self.kick();
    }

    /// Ends the tunnel with its last stream.
    pub(super) fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.endpoint.go_away(Reason::NO_ERROR);
        }
        self.kick();
    }

    /// Something happened that is no DATA.
    pub(super) fn happened(&mut self, event: Event<'_>, alive: &Notify) {
        match event {
            Event::Opened(number, head) => self.opened(number, head),
            Event::Answered(number, response) => {
                if let Some(flow) = self.endpoint.user(number) {
                    flow.answer = Some(Box::new(response));
                    wake(&mut flow.reader);
                }
            }
            Event::Ended(number) => self.is_whole(number),
            Event::Reset(number, reason) => self.reset(number, reason),
            Event::Credit(Some(number)) => {
                if let Some(flow) = self.endpoint.user(number) {
                    wake(&mut flow.writer);
                }
            }
            Event::Credit(None) => {
                self.pump();
                for (_, flow) in self.endpoint.users().filter(|(_, flow)| !flow.queued) {
                    wake(&mut flow.writer);
                }
            }
            Event::GoAway(reason) => {
                tracing::debug!(target: "tunnel", %reason, "the peer takes no more streams");
                self.leaving = true;
            }
            Event::Pong(LEAVING) => self.leave(),
            Event::Pong(_) => alive.notify_one(),
            Event::Data(..) => {}
        }
    }

    fn opened(&mut self, number: u32, head: Head) {
        match self.foreign.keep(number, head) {
            Some(head) => self.accepted.push_back((number, head)),
            None => {
                if let Some(flow) = self.endpoint.user(number) {
                    flow.deaf = true;
                }
            }
        }
    }

    /// The peer has said all of a stream.
    fn is_whole(&mut self, number: u32) {
        match self.foreign.take(number) {
            Some(Ok(head)) => self.accepted.push_back((number, head)),
            Some(Err(Malformed)) => {
                self.endpoint.reset(number, Reason::PROTOCOL_ERROR);
                self.forget(number);
            }
            None => {}
        }
        if let Some(flow) = self.endpoint.user(number) {
            flow.ended = true;
            wake(&mut flow.reader);
        }
    }

    fn reset(&mut self, number: u32, reason: Reason) {
        if self.foreign.take(number).is_some() {
            return self.forget(number);
        }
        let Some(flow) = self.endpoint.user(number) else {
            return;
        };
        flow.broken.get_or_insert(Broke::Reset(reason));
        flow.wake();
        // A reset overtakes what was sent before it; who needs no more of us has sent it to be read.
        if reason != Reason::NO_ERROR {
            let lost: usize = flow.queue.drain(..).map(|chunk| chunk.len()).sum();
            self.endpoint.release(number, lost);
        }
    }

    /// Lets a stream send up to `want` bytes: at once where nobody waits, else a turn's worth once it is its turn.
    pub(super) fn poll_grant(
        &mut self,
        number: u32,
        want: usize,
        context: &Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let (credit, available) = (self.endpoint.stream_credit(number), self.available());
        let Some(flow) = self.endpoint.user(number) else {
            return Poll::Ready(Err(StreamError::Reset("forgotten".into())));
        };
        if let Some(broke) = &flow.broken {
            return Poll::Ready(Err(broke.clone().into()));
        }
        if credit == 0 {
            // Also where the peer took back what a turn was given for.
            self.granted -= std::mem::take(&mut flow.granted);
            remember(&mut flow.writer, context);
            return Poll::Pending;
        }
        if flow.granted == 0 {
            if !self.turns.is_empty() || available == 0 {
                remember(&mut flow.writer, context);
                if !std::mem::replace(&mut flow.queued, true) {
                    self.turns.push_back(number);
                }
                return Poll::Pending;
            }
            // Nobody else waits.
            flow.granted = want.min(credit).min(available);
            self.granted += flow.granted;
        }
        // The peer may have taken back a part of what a turn was given for.
        Poll::Ready(Ok(flow.granted.min(want).min(credit)))
    }

    /// A stream has sent bytes of its turn.
    pub(super) fn spend(&mut self, number: u32, bytes: usize) {
        if let Some(flow) = self.endpoint.user(number) {
            let bytes = bytes.min(flow.granted);
            flow.granted -= bytes;
            self.granted -= bytes;
        }
        self.sent += 1;
        self.kick();
    }

    /// Whether what is to be sent are messages of several: then there may be more of them.
    pub(super) fn is_busy(&self) -> bool {
        self.sent > 1 && self.endpoint.out.len() < FULL
    }

    /// A stream leaves the rest of its turn to the next in line.
    pub(super) fn give_back(&mut self, number: u32) {
        if let Some(flow) = self.endpoint.user(number) {
            self.granted -= std::mem::take(&mut flow.granted);
        }
        // A buffer that was taken for what did not come is another's.
        if self.endpoint.out.is_empty() && self.endpoint.out.capacity() > 0 {
            buffers::put(std::mem::take(&mut self.endpoint.out).into_records().0);
        }
        self.pump();
    }

    /// Gives turns to those in line, as far as there is room.
    pub(super) fn pump(&mut self) {
        while let (Some(number), available @ 1..) = (self.turns.front().copied(), self.available()) {
            self.turns.pop_front();
            let credit = self.endpoint.stream_credit(number);
            if let Some(flow) = self.endpoint.user(number) {
                flow.queued = false;
                flow.granted = QUANTUM.min(credit).min(available);
                self.granted += flow.granted;
                wake(&mut flow.writer);
            }
        }
    }

    /// Bytes that a turn may have now.
    fn available(&self) -> usize {
        let waiting = self.endpoint.out.len() + self.granted;
        let room = self.load.most_waiting().saturating_sub(waiting);
        if room < WORTHWHILE && waiting > 0 {
            return 0;
        }
        room.max(1).min(self.endpoint.credit().saturating_sub(self.granted))
    }

    /// Forgets a stream: nobody uses it any more.
    pub(super) fn forget(&mut self, number: u32) {
        if let Some(flow) = self.endpoint.forget(number) {
            self.granted -= flow.granted;
            if flow.queued {
                self.turns.retain(|other| *other != number);
            }
        }
        self.recount();
        self.pump();
        self.kick();
    }

    /// Has what is to be sent collect in a buffer that has room for so many bytes more.
    pub(super) fn widen(&mut self, more: usize) {
        let out = &mut self.endpoint.out;
        let needed = out.needed(more);
        if out.capacity() < needed.min(buffers::LARGE) {
            let narrow = std::mem::replace(out, Outbox::over(buffers::take(needed)));
            out.extend(&narrow.plain());
            buffers::put(narrow.into_records().0);
        }
    }

    /// Everything that is to be sent, for the wire.
    pub(super) fn take_out(&mut self) -> Outbox {
        let out = std::mem::take(&mut self.endpoint.out);
        self.sent = 0;
        self.pump();
        out
    }
}
