//! When the access log says something, and how often at most.

use std::{
    num::NonZeroU32,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::options::Told;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When a connection gets a line in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AccessLog {
    /// Never.
    Off,
    /// When it opens.
    Open,
    /// When it ends.
    #[default]
    Close,
    /// When it opens and when it ends.
    Both,
}

/// A point in a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Opened,
    Ended,
    /// Refused before it opened, or cut.
    Refused,
}

/// Lines a second, without a lock.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    /// The second (since the start) in the upper half, lines of that second in the lower.
    window: AtomicU64,
    dropped: AtomicU64,
}

impl AccessLog {
    fn says(self, moment: Moment) -> bool {
        match (self, moment) {
            (Self::Off, _) | (Self::Open, Moment::Ended) | (Self::Close, Moment::Opened) => false,
            (Self::Open | Self::Both, Moment::Opened)
            | (Self::Close | Self::Both, Moment::Ended)
            | (Self::Open | Self::Close | Self::Both, Moment::Refused) => true,
        }
    }
}

impl Told {
    /// Whether a line is to be written now. One that the rate leaves no room for is counted as dropped.
    pub(super) fn says(&self, moment: Moment) -> bool {
        let rate = match moment {
            Moment::Opened | Moment::Ended => &self.rate,
            Moment::Refused => &self.refusal_rate,
        };
        self.access_log.says(moment) && rate.admits(START.elapsed().as_secs())
    }

    /// Publishes how many lines were dropped. As a total each time: a counter that is only held falls silent.
    pub(super) fn publish(&self) {
        for (kind, rate) in [("ended", &self.rate), ("refused", &self.refusal_rate)] {
            let dropped = rate.dropped.load(Relaxed);
            metrics::counter!("weft_access_log_lines_dropped_total", "kind" => kind).absolute(dropped);
        }
    }
}

impl Rate {
    pub(super) fn new(most: NonZeroU32) -> Self {
        Self {
            most: most.get(),
            window: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn admits(&self, second: u64) -> bool {
        let admitted = self.window.fetch_update(Relaxed, Relaxed, |window| {
            let (of, lines) = (window >> 32, window & u64::from(u32::MAX));
            if of != second {
                return Some((second << 32) | 1);
            }
            (lines < u64::from(self.most)).then_some(window + 1)
        });
        if admitted.is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        admitted.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_log_lines_are_bounded_and_what_is_dropped_is_counted() {
        let rate = Rate::new(NonZeroU32::new(3).unwrap());
        let admitted = |second| (0..10).filter(|_| rate.admits(second)).count();
        assert_eq!((admitted(0), admitted(7)), (3, 3));
        assert_eq!(rate.dropped.load(Relaxed), 14);
    }

    #[test]
    fn the_access_log_says_what_it_is_asked_to_and_refusals_unless_off() {
        use Moment::{Ended, Opened, Refused};
        for (log, said) in [
            (AccessLog::Off, &[][..]),
            (AccessLog::Open, &[Opened, Refused]),
            (AccessLog::Close, &[Ended, Refused]),
            (AccessLog::Both, &[Opened, Ended, Refused]),
        ] {
            for moment in [Opened, Ended, Refused] {
                assert_eq!(log.says(moment), said.contains(&moment), "{log:?} {moment:?}");
            }
        }
    }

    #[test]
    fn a_flood_of_good_connections_hides_no_refusal() {
        let told = Told {
            rate: Rate::new(NonZeroU32::MIN),
            ..Told::new(&super::super::FlowOptions::default())
        };
        while told.says(Moment::Ended) {}
        assert!(told.says(Moment::Refused));
    }
}
