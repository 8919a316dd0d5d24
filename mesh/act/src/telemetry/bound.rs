//! A bound that was reached: one metric and one sentence, which name it and its flag (design 32).

use decide::model::Refusal;

/// What a process has only so many of. Its flag, the label of its metric and its refusal name it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Its flag without the dashes, and the value of the label `bound` of its metric.
    pub name: &'static str,
    /// What there are so many of: the end of "256 …".
    pub what: &'static str,
    /// What becomes of what is more.
    pub beyond: Beyond,
}

/// What becomes of what is more than a bound allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// It is refused.
    Refused,
    /// It waits, or goes on with less.
    Slowed,
    /// It is let in, and the oldest forgotten.
    Forgotten,
}

impl Bound {
    /// A bound beyond which things are refused.
    pub const fn refusing(name: &'static str, what: &'static str) -> Self {
        let beyond = Beyond::Refused;
        Self { name, what, beyond }
    }

    /// A bound beyond which things wait, or go on with less.
    pub const fn slowing(name: &'static str, what: &'static str) -> Self {
        let beyond = Beyond::Slowed;
        Self { name, what, beyond }
    }

    /// A bound beyond which the oldest is forgotten.
    pub const fn forgetting(name: &'static str, what: &'static str) -> Self {
        let beyond = Beyond::Forgotten;
        Self { name, what, beyond }
    }

    /// The flag that sets it.
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The metric that counts how often it was reached, by its name.
    pub fn metric(&self) -> &'static str {
        match self.beyond {
            Beyond::Refused => "weft_connections_refused_total",
            Beyond::Slowed => "weft_flows_slowed_total",
            Beyond::Forgotten => "weft_forgotten_early_total",
        }
    }

    /// Counts that it was reached at `most`, and answers the refusal.
    pub fn reached(&self, most: usize) -> Refusal {
        Refusal::Overloaded(self.told(most).into())
    }

    /// As [`Bound::reached`], for a refusal of another kind, or the log: one plain sentence, without its stop.
    pub fn told(&self, most: usize) -> String {
        self.hit(1);
        format!("{most} {}, and {} allows no more", self.what, self.flag())
    }

    /// Counts that it was reached so many times, where nobody can be told why.
    pub fn hit(&self, times: u64) {
        metrics::counter!(self.metric(), "bound" => self.name).increment(times);
    }

    /// What is missing to set it on a command line: each bound of a program has a flag of its name with a default, an
    /// environment variable and a help text.
    pub fn missing_in(&self, command: &clap::Command) -> Option<&'static str> {
        let Some(flag) = command.get_arguments().find(|it| it.get_long() == Some(self.name)) else {
            return Some("the flag");
        };
        let parts = [
            (!flag.get_default_values().is_empty(), "its default"),
            (flag.get_env().is_some(), "its environment variable"),
            (flag.get_help().is_some(), "its help"),
        ];
        parts.into_iter().find_map(|(there, what)| (!there).then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::descriptions::COUNTERS, *};

    const HELD: Bound = Bound::refusing("pod-held", "connections of one pod are held");

    #[test]
    fn a_refusal_names_its_bound_and_its_flag() {
        let refusal = HELD.reached(7);
        assert_eq!((refusal.status(), refusal.label()), (503, "OVERLOADED"));
        assert!(
            refusal
                .to_string()
                .contains("7 connections of one pod are held, and --pod-held allows no more"),
            "{refusal}"
        );
    }

    #[test]
    fn every_metric_of_a_bound_is_described() {
        for bound in [
            HELD,
            Bound::slowing("pod-held", "wait"),
            Bound::forgetting("pod-held", "are known"),
        ] {
            let described = COUNTERS.iter().any(|(name, _)| *name == bound.metric());
            assert!(described, "{}", bound.metric());
        }
    }

    #[test]
    fn what_a_flag_of_a_bound_lacks_is_named() {
        let flag = || clap::Arg::new("pod-held").long("pod-held");
        let lacks = |flag: clap::Arg| HELD.missing_in(&clap::Command::new("x").arg(flag));
        assert_eq!(lacks(clap::Arg::new("other").long("other")), Some("the flag"));
        assert_eq!(lacks(flag()), Some("its default"));
        assert_eq!(lacks(flag().default_value("1")), Some("its environment variable"));
        assert_eq!(lacks(flag().default_value("1").env("HELD")), Some("its help"));
        assert_eq!(lacks(flag().default_value("1").env("HELD").help("so many")), None);
    }
}
