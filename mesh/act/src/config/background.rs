//! The thread that reads the configuration.

use std::{io, thread};

use rustix::process::setpriority_process;

/// How far it stands behind the threads that carry traffic, as `nice` counts: where both want the same core, it has a
/// tenth of it. Thousands of changes at once then take longer, and what is under way does not; one change costs so little
/// that nobody notices.
const NICE: i32 = 10;

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
        work();
    };
    thread.spawn(yielding).map(drop)
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
        start(move || tell.send(getpriority_process(None)).expect("somebody listens")).expect("a thread");
        let behind = told.recv().expect("it says").expect("a priority");
        assert_eq!(behind, NICE.max(before));
        assert_eq!(getpriority_process(None).expect("a priority"), before, "its own alone");
    }
}
