//! The thread that reads the configuration.

use std::{cell::Cell, io, thread, time::Duration};

use rustix::process::setpriority_process;

use crate::courtesy::{Courtesy, Terms};

/// How far it stands behind the threads that carry traffic, as `nice` counts: where both want the same core, it has a
/// tenth of it. Thousands of changes at once then take longer, and what is under way does not; one change costs so little
/// that nobody notices.
const NICE: i32 = 10;

/// What it does at a stretch where others want its core, and what it lets itself be kept waiting.
const TERMS: Terms = Terms {
    stretch: Duration::from_micros(500),
    unminded: Duration::ZERO,
    patience: Duration::from_millis(50),
    regained: 4,
};

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
        COURTESY.set(Some(Courtesy::new(&TERMS)));
        work();
    };
    thread.spawn(yielding).map(drop)
}

/// Where it may be interrupted: between two objects. Those that carry traffic go first once it had its stretch; where
/// nobody else wants the core, it goes on at once. Does nothing in any other thread.
pub(super) fn give_way() {
    if let Some(mut courtesy) = COURTESY.get() {
        courtesy.give_way();
        COURTESY.set(Some(courtesy));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::process::getpriority_process;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn what_is_under_way_comes_before_what_should_be() {
        let (tell, told) = channel();
        let before = getpriority_process(None).expect("a priority");
        let work = move || {
            thread::sleep(TERMS.stretch);
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
}
