//! The thread that reads the configuration.

use std::{cell::Cell, io, thread, time::Duration};

use rustix::process::setpriority_process;
use tokio::time::Instant;

/// How far it stands behind the threads that carry traffic, as `nice` counts: where both want the same core, it has a
/// tenth of it. Thousands of changes at once then take longer, and what is under way does not; one change costs so little
/// that nobody notices.
const NICE: i32 = 10;

/// What it does at a stretch where others want its core. The kernel lets a thread that has begun go on for some
/// milliseconds, however nice it is, and as long would a request wait that came meanwhile.
const STRETCH: Duration = Duration::from_micros(500);

/// What it lets itself be kept waiting beyond its share: where the node is busy for good, it would come to nothing.
const PATIENCE: Duration = Duration::from_millis(50);
/// One part in so many of the time that passes is patience regained.
const REGAINED: u32 = 4;

thread_local! {
    /// Of the thread that reads the configuration alone.
    static COURTESY: Cell<Option<Courtesy>> = const { Cell::new(None) };
}

/// Starts it.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("configuration".into());
    let yielding = move || {
        // On Linux this is the calling thread's alone. Where it is refused, it stands beside the others, as it would anyway.
        if let Err(error) = setpriority_process(None, NICE) {
            tracing::debug!("the configuration is read at the priority of traffic: {error}");
        }
        COURTESY.set(Some(Courtesy::new(Instant::now())));
        work();
    };
    thread.spawn(yielding).map(drop)
}

/// Where it may be interrupted: between two objects. Those that carry traffic go first once it had its stretch; where
/// nobody else wants the core, it goes on at once. Does nothing in any other thread.
pub(super) fn give_way() {
    let Some(mut courtesy) = COURTESY.get() else {
        return;
    };
    let now = Instant::now();
    if courtesy.is_due(now) {
        thread::yield_now();
        courtesy.waited(now, Instant::now());
    }
    COURTESY.set(Some(courtesy));
}

/// When to let others go first.
#[derive(Debug, Clone, Copy)]
struct Courtesy {
    /// When its stretch began.
    since: Instant,
    /// What it has been kept waiting, less what of that is forgotten by now.
    kept: Duration,
}

impl Courtesy {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            kept: Duration::ZERO,
        }
    }

    /// Whether its stretch is over, and it has not been kept waiting for too long.
    fn is_due(&mut self, now: Instant) -> bool {
        let passed = now - self.since;
        if passed < STRETCH {
            return false;
        }
        self.since = now;
        self.kept = self.kept.saturating_sub(passed / REGAINED);
        self.kept < PATIENCE
    }

    /// It let others go first, and was kept waiting.
    fn waited(&mut self, from: Instant, to: Instant) {
        self.since = to;
        self.kept += to - from;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn what_is_under_way_comes_before_what_should_be() {
        let (tell, told) = channel();
        let before = getpriority_process(None).expect("a priority");
        let work = move || {
            thread::sleep(STRETCH);
            let due = COURTESY
                .get()
                .is_some_and(|mut courtesy| courtesy.is_due(Instant::now()));
            tell.send((getpriority_process(None), due)).expect("somebody listens");
        };
        start(work).expect("a thread");
        let (behind, gives_way) = told.recv().expect("it says");
        assert_eq!(behind.expect("a priority"), NICE.max(before));
        assert!(gives_way);
        assert_eq!(getpriority_process(None).expect("a priority"), before, "its own alone");
        assert!(COURTESY.get().is_none(), "its own alone");
    }

    #[test]
    fn who_is_kept_waiting_gives_way_less_and_still_has_its_share() {
        let begun = Instant::now();
        let (mut now, mut courtesy) = (begun, Courtesy::new(begun));
        assert!(!courtesy.is_due(now + STRETCH / 2));
        // Nobody wants the core: it gives way after every stretch, and is back at once.
        for _ in 0..1_000 {
            now += STRETCH;
            assert!(courtesy.is_due(now));
            courtesy.waited(now, now);
        }
        // Everybody does, for good.
        let (begun, mut kept) = (now, Duration::ZERO);
        for _ in 0..10_000 {
            now += STRETCH;
            if courtesy.is_due(now) {
                let back = now + 20 * STRETCH;
                courtesy.waited(now, back);
                kept += back - now;
                now = back;
            }
        }
        assert!(
            kept < PATIENCE + (now - begun) / REGAINED,
            "{kept:?} of {:?}",
            now - begun
        );
        assert!(kept > (now - begun) / (2 * REGAINED), "{kept:?} of {:?}", now - begun);
    }
}
