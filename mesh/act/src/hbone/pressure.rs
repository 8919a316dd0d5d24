//! How much a peer may send ahead: all of its windows while little waits here, less and less of them the more does.

use super::{Budget, LEAST};

/// How full we are, in steps from 0 to [`MOST`]. With each, a peer may send a quarter as much ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Pressure(u32);

const MOST: u32 = 4;

impl Pressure {
    /// By what a pod holds, of what it may: a step with each quarter. What its peers have under way when they are told
    /// of a step has room in those that are left.
    pub(super) fn of_pod(budget: &Budget) -> Self {
        Self::of_held(budget.held(), budget.most())
    }

    fn of_held(held: usize, most: usize) -> Self {
        let quarters = held.saturating_mul(4) / most.max(1);
        Self(u32::try_from(quarters).unwrap_or(MOST).min(MOST))
    }

    /// By what a tunnel holds that nobody has read, to its window: the first step at half of it, another with each
    /// doubling.
    pub(super) fn of_tunnel(unread: usize, window: u32) -> Self {
        let halves = unread.saturating_mul(2) / usize::try_from(window).unwrap_or(usize::MAX).max(1);
        Self((usize::BITS - halves.leading_zeros()).min(MOST))
    }

    /// What it comes to from here: up at once, down only once half as much waits, so that it does not change with every
    /// byte.
    pub(super) fn next(self, budget: &Budget, unread: usize, window: u32) -> Self {
        let pressure = |times: usize| {
            let pod = Self::of_held(budget.held().saturating_mul(times), budget.most());
            pod.max(Self::of_tunnel(unread.saturating_mul(times), window))
        };
        self.clamp(pressure(1), pressure(2))
    }

    /// What is left of so many bytes, and at least [`LEAST`].
    pub(super) fn lessen(self, bytes: u32) -> u32 {
        let least = u32::try_from(LEAST).unwrap_or(u32::MAX);
        (bytes >> (2 * self.0)).max(least.min(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_more_waits_the_less_may_be_sent_ahead_and_never_nothing() {
        let windows: Vec<_> = [0, 8, 16, 24, 32, 1000]
            .map(|held| Pressure::of_held(held * MIB, 32 * MIB).lessen(1 << 20))
            .into();
        assert_eq!(windows, [1 << 20, 1 << 18, 1 << 16, 1 << 14, 1 << 12, 1 << 12]);
        let windows: Vec<_> = [0, 3, 4, 7, 8, 16, 32, 1000]
            .map(|unread| Pressure::of_tunnel(unread * MIB, 8 << 20).lessen(1 << 20) >> 10)
            .into();
        assert_eq!(windows, [1024, 1024, 256, 256, 64, 16, 4, 4]);
        assert_eq!(Pressure(4).lessen(100), 100, "what is small stays");
    }

    #[test]
    fn pressure_goes_up_at_once_and_down_at_half() {
        let budget = Budget::new(32 * MIB);
        let (mut held, mut pressure) = (budget.hold(0), Pressure::default());
        let mut at = |mib: usize| {
            held.set(mib * MIB);
            pressure = pressure.next(&budget, 0, 8 << 20);
            pressure.0
        };
        assert_eq!([7, 8, 7, 5, 3, 4].map(&mut at), [0, 1, 1, 1, 0, 0]);
        assert_eq!([30, 17, 9, 3].map(&mut at), [3, 3, 2, 0]);
    }
}
