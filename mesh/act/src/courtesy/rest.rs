//! Before a worker rests: who was just told something may have its answer in a moment. Where a worker has told several, it lets
//! them answer first, and finds more of it when it looks: one round serves what would have been several, and nobody
//! wakes it for each.

use std::{cell::Cell, time::Duration};

use super::{Courtesy, Terms};

/// From how many messages on, since the last rest, it does. With fewer it would wait as long for the one answer as it would asleep.
const SEVERAL: u32 = 4;

/// What is larger is a part of bulk, which nobody answers, in bytes.
const MESSAGE: usize = 16 * 1024;

/// An application answers in some microseconds. Who keeps the core for longer has nothing to say to us; beside such, no more
/// than one part in 32 is lost.
const TERMS: Terms = Terms {
    stretch: Duration::ZERO,
    unminded: Duration::from_millis(1),
    patience: Duration::from_millis(2),
    regained: 32,
};

thread_local! {
    static SAID: Cell<u32> = const { Cell::new(0) };
    static COURTESY: Cell<Option<Courtesy>> = const { Cell::new(None) };
}

/// So many bytes were sent at once by this thread.
pub(crate) fn said(bytes: usize) {
    if bytes <= MESSAGE {
        SAID.set(SAID.get().saturating_add(1));
    }
}

/// This thread has nothing more to do, and is about to wait.
pub(crate) fn before() {
    if SAID.take() >= SEVERAL {
        let mut courtesy = COURTESY.get().unwrap_or_else(|| Courtesy::new(&TERMS));
        courtesy.give_way();
        COURTESY.set(Some(courtesy));
    }
}

/// How many messages it has sent since its last rest.
#[cfg(test)]
pub(crate) fn unanswered() -> u32 {
    SAID.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_told_several_lets_them_answer_before_it_rests() {
        before();
        (1..SEVERAL).for_each(|_| said(100));
        before();
        (0..SEVERAL).for_each(|_| said(MESSAGE + 1));
        before();
        assert!(COURTESY.get().is_none(), "too few to wait for, and bulk");
        (0..SEVERAL).for_each(|_| said(MESSAGE));
        assert_eq!(unanswered(), SEVERAL, "what was told before a rest is over");
        before();
        assert!(COURTESY.get().is_some(), "they went first");
    }
}
