//! A bound that was reached: one metric and one sentence, which name it and its flag (design 32).

use decide::model::Refusal;

/// What a process has only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Value of the label `bound` of its metric.
    pub name: &'static str,
    /// The flag that sets it.
    pub flag: &'static str,
    /// What there are so many of: the end of "256 …".
    pub what: &'static str,
}

impl Bound {
    /// Counts that something was refused at `most`, and answers the refusal.
    pub fn reached(&self, most: usize) -> Refusal {
        Refusal::Overloaded(self.refused(most).into())
    }

    /// As [`Bound::reached`], for a refusal of another kind: its sentence.
    pub fn refused(&self, most: usize) -> String {
        metrics::counter!("weft_connections_refused_total", "bound" => self.name).increment(1);
        self.sentence(most)
    }

    /// Counts that something was refused where nobody can be told why.
    pub fn refused_silently(&self, times: u64) {
        metrics::counter!("weft_connections_refused_total", "bound" => self.name).increment(times);
    }

    /// Counts that a flow was given less than it would have taken.
    pub fn slowed(&self) {
        metrics::counter!("weft_flows_slowed_total", "bound" => self.name).increment(1);
    }

    /// Counts that something was forgotten early to make room.
    pub fn forgot(&self) {
        metrics::counter!("weft_forgotten_early_total", "bound" => self.name).increment(1);
    }

    /// One plain sentence, without its stop.
    fn sentence(&self, most: usize) -> String {
        format!("{most} {}, and {} allows no more", self.what, self.flag)
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
