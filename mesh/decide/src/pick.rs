//! Which endpoint? Power of two choices on live connections (design 14).

use std::net::{IpAddr, SocketAddr};

/// What a pick may use beyond the candidates.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Randomness of the caller.
    pub random: u64,
    /// Live connections towards an address, as the caller counts them.
    pub load: &'a dyn Fn(IpAddr) -> u32,
    /// Endpoints that failed a moment ago: not picked while another is left.
    pub avoid: &'a [SocketAddr],
}

/// Picks one of `candidates`: of two distinct ones drawn at random, the one with less load.
/// `None` only when there is no candidate.
pub fn pick<'c, T>(candidates: &'c [T], address: impl Fn(&T) -> SocketAddr, choice: &Choice<'_>) -> Option<&'c T> {
    let fresh = || {
        candidates
            .iter()
            .filter(|candidate| !choice.avoid.contains(&address(candidate)))
    };
    match fresh().count() {
        0 => {
            let (first, second) = draw(candidates.len(), choice.random);
            lighter(candidates.get(first), candidates.get(second), &address, choice)
        }
        count => {
            let (first, second) = draw(count, choice.random);
            lighter(fresh().nth(first), fresh().nth(second), &address, choice)
        }
    }
}

/// Two distinct indexes below `count`, each ordered pair equally likely; twice the same when there is but one.
pub(crate) fn draw(count: usize, random: u64) -> (usize, usize) {
    let below = |half: u64, bound: usize| usize::try_from((half * bound as u64) >> 32).unwrap_or_default();
    let first = below(random >> 32, count);
    if count < 2 {
        return (first, first);
    }
    let other = below(random & u64::from(u32::MAX), count - 1);
    (first, if other < first { other } else { other + 1 })
}

/// Other randomness from the same word (SplitMix64's finisher), for a second draw that the first must not bias.
pub(crate) fn mixed(random: u64) -> u64 {
    let word = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn lighter<'c, T>(
    first: Option<&'c T>,
    second: Option<&'c T>,
    address: impl Fn(&T) -> SocketAddr,
    choice: &Choice<'_>,
) -> Option<&'c T> {
    let (Some(one), Some(two)) = (first, second) else {
        return first.or(second);
    };
    Some(if is_lighter(two, one, address, choice) {
        two
    } else {
        one
    })
}

/// Whether `one` has less load than `other`.
pub(crate) fn is_lighter<T>(one: &T, other: &T, address: impl Fn(&T) -> SocketAddr, choice: &Choice<'_>) -> bool {
    let load = |candidate: &T| (choice.load)(address(candidate).ip());
    load(one) < load(other)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn at(index: usize) -> SocketAddr {
        SocketAddr::from(([10, 1, (index >> 8) as u8, (index & 255) as u8], 80))
    }

    fn picked(count: usize, random: u64, load: &dyn Fn(IpAddr) -> u32, avoid: &[SocketAddr]) -> Option<SocketAddr> {
        let candidates: Vec<_> = (0..count).map(at).collect();
        pick(&candidates, |it| *it, &Choice { random, load, avoid }).copied()
    }

    #[test]
    fn nothing_is_picked_of_nothing() {
        assert_eq!(picked(0, 7, &|_| 0, &[]), None);
    }

    proptest! {
        #[test]
        fn the_two_drawn_are_distinct_and_in_range(count in 2usize..500, random: u64) {
            let (first, second) = draw(count, random);
            prop_assert!(first < count && second < count && first != second);
        }

        #[test]
        fn of_two_the_lower_load_wins(random: u64, light in 0u32..100, more in 1u32..100) {
            let load = move |address: IpAddr| if address == at(1).ip() { light } else { light + more };
            prop_assert_eq!(picked(2, random, &load, &[]), Some(at(1)));
        }

        #[test]
        fn the_most_loaded_is_never_picked_while_another_is_left(count in 2usize..20, random: u64) {
            let load = |address: IpAddr| u32::from(address == at(0).ip());
            prop_assert_ne!(picked(count, random, &load, &[]), Some(at(0)));
        }

        #[test]
        fn what_failed_is_avoided_while_another_is_left(count in 1usize..20, failed in 0usize..20, random: u64) {
            let avoid: Vec<_> = (0..failed).map(at).collect();
            let found = picked(count, random, &|_| 0, &avoid).expect("there is a candidate");
            prop_assert_eq!(avoid.contains(&found), failed >= count);
        }
    }

    #[test]
    fn equal_loads_share_evenly() {
        let (count, draws) = (7, 70_000u64);
        let mut seen = HashMap::new();
        for draw in 0..draws {
            *seen.entry(picked(count, mixed(draw), &|_| 0, &[])).or_insert(0u64) += 1;
        }
        let fair = draws / count as u64;
        assert!(seen.values().all(|times| times.abs_diff(fair) < fair / 10), "{seen:?}");
    }
}
