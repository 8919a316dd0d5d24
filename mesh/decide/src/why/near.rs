//! What may have been meant by a name that nothing has.

/// `; did you mean demo/client-1?` for the name nearest to `wanted`, or nothing when none is near.
pub(super) fn did_you_mean(wanted: &str, names: impl Iterator<Item = String>) -> String {
    let most = (wanted.len() / 3).clamp(1, 4);
    let near = names
        .map(|name| (distance(wanted, &name), name))
        .filter(|(far, _)| *far <= most)
        .min();
    near.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

/// How many letters must be added, removed, changed or swapped with their neighbour (optimal string alignment).
/// Names longer than Kubernetes allows are far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > 512 {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let changed = last[j] + usize::from(left != right);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_far_ones_are_not() {
        let names = || {
            ["demo/client-1", "demo/server", "shop/client-1"]
                .map(String::from)
                .into_iter()
        };
        assert_eq!(did_you_mean("demo/clinet-1", names()), "; did you mean demo/client-1?");
        assert_eq!(did_you_mean("demo/zzz", names()), "");
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(a in "[abc]{0,8}", b in "[abc]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }
}
