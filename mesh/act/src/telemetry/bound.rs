//! A bound that was reached: one metric and one refusal, which name it and its flag (design 32).

use decide::model::Refusal;

/// What a process has only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Value of the label `bound` of `weft_connections_refused_total`.
    pub name: &'static str,
    /// The flag that sets it.
    pub flag: &'static str,
    /// What there are so many of: the end of "256 …".
    pub what: &'static str,
}

impl Bound {
    /// Counts that it was reached at `most`, and answers the refusal.
    pub fn reached(&self, most: usize) -> Refusal {
        metrics::counter!("weft_connections_refused_total", "bound" => self.name).increment(1);
        Refusal::Overloaded(format!("{most} {}, and {} allows no more", self.what, self.flag).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_bound_and_its_flag() {
        let bound = Bound {
            name: "pod-held",
            flag: "--pod-held",
            what: "connections of one pod are held",
        };
        let refusal = bound.reached(7);
        assert_eq!((refusal.status(), refusal.label()), (503, "OVERLOADED"));
        assert!(
            refusal
                .to_string()
                .contains("7 connections of one pod are held, and --pod-held allows no more"),
            "{refusal}"
        );
    }
}
