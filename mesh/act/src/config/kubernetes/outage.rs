//! What is wrong between us and the API server: told once when it begins and once when it is over, as a log line
//! and as a problem that stands while it lasts.

use std::{collections::BTreeMap, sync::Arc};

use decide::model::{ObjectRef, Problem};
use tokio::time::Instant;

use super::{scope::Kind, trouble::Trouble};
use crate::config::Change;

/// Kind of the object that problems of the server stand on.
const KIND: &str = "APIServer";

/// What is wrong, by plural name of the kind that is not watched for it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    troubles: BTreeMap<&'static str, (&'static Kind, Trouble)>,
    told: BTreeMap<Arc<str>, (Problem, Instant)>,
}

impl Outage {
    /// Something is wrong with the watch of a kind.
    pub(super) fn began(&mut self, kind: &'static Kind, trouble: Trouble) {
        self.troubles.insert(kind.plural, (kind, trouble));
    }

    /// The watch of a kind works.
    pub(super) fn over(&mut self, kind: &'static Kind) {
        self.troubles.remove(kind.plural);
    }

    /// What was not told yet of what began and what is over, in the log and as changes. `complete`: whether there
    /// is a good state that stays.
    pub(super) fn changes(&mut self, complete: bool, changes: &mut Vec<Change>) {
        let now = self.problems(complete);
        let over: Vec<Arc<str>> = self
            .told
            .keys()
            .filter(|name| !now.contains_key(*name))
            .cloned()
            .collect();
        for name in over {
            if let Some((problem, since)) = self.told.remove(&name) {
                let lasted = since.elapsed();
                tracing::info!(what = %name, ?lasted, "the API server is watched again");
                changes.push(Change::Accept(problem.object));
            }
        }
        for (name, problem) in now {
            let since = match self.told.get(&name) {
                Some((told, _)) if told.remedy == problem.remedy => continue,
                Some((_, since)) => *since,
                None => Instant::now(),
            };
            tracing::warn!(what = %name, "the API server {} {}", problem.what, problem.remedy);
            changes.push(Change::Reject(problem.clone()));
            self.told.insert(name, (problem, since));
        }
    }

    /// What is wrong, in one problem where it is the same for many kinds.
    fn problems(&self, complete: bool) -> BTreeMap<Arc<str>, Problem> {
        let stays = match complete {
            true => "What was known stays in force.",
            false => "Until every list is there, nothing is decided.",
        };
        let mut found = BTreeMap::new();
        for (kind, trouble) in self.troubles.values() {
            let (name, remedy) = remedy(kind, trouble);
            let unread = kind.unread().filter(|_| matches!(trouble, Trouble::Forbidden(_)));
            let stays = unread.unwrap_or(stays);
            let problem = Problem {
                object: ObjectRef {
                    kind: KIND.into(),
                    namespace: "".into(),
                    name: name.clone(),
                },
                field: "".into(),
                what: format!("{trouble}. {stays}").into(),
                remedy: remedy.into(),
                place: None,
            };
            found.entry(name).or_insert(problem);
        }
        found
    }
}

/// What the trouble is with, and what to do.
fn remedy(kind: &Kind, trouble: &Trouble) -> (Arc<str>, String) {
    match trouble {
        Trouble::Forbidden(_) => (
            kind.full_name().into(),
            format!(
                "Grant get, list and watch on {} (API group {:?}) to this process's account.",
                kind.plural, kind.group
            ),
        ),
        Trouble::Unknown(_) => (
            "credentials".into(),
            "Give this process the token of a service account, or a KUBECONFIG that is valid.".into(),
        ),
        Trouble::NotServed | Trouble::NoStreaming(_) | Trouble::Expired => (
            kind.full_name().into(),
            format!("See whether the server serves {}.", kind.full_name()),
        ),
        Trouble::Unreachable(_) | Trouble::Failing(..) => (
            "connection".into(),
            "See whether it runs, and whether this process can reach it.".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::kubernetes::scope::Scope;

    fn kind(plural: &str) -> &'static Kind {
        let kinds = Scope::Ztunnel.kinds();
        kinds.iter().find(|kind| kind.plural == plural).expect("a kind")
    }

    fn refused() -> Trouble {
        Trouble::Unreachable("Connection refused".into())
    }

    fn told(outage: &mut Outage) -> Vec<String> {
        let mut changes = Vec::new();
        outage.changes(true, &mut changes);
        let shown = changes.iter().map(|change| match change {
            Change::Reject(problem) => format!("{}: {}", problem.object.name, problem.what),
            Change::Accept(object) => format!("over: {}", object.name),
            other => format!("{other:?}"),
        });
        shown.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_whatever_is_tried_meanwhile_and_is_over_when_every_kind_is_watched() {
        let mut outage = Outage::default();
        outage.began(kind("pods"), refused());
        assert_eq!(
            told(&mut outage),
            ["connection: does not answer (Connection refused). What was known stays in force."]
        );
        for plural in ["pods", "services", "pods"] {
            outage.began(kind(plural), Trouble::Failing(503, "starting".into()));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(told(&mut outage), Vec::<String>::new());
        }
        outage.over(kind("pods"));
        assert_eq!(told(&mut outage), Vec::<String>::new());
        outage.over(kind("services"));
        assert_eq!(told(&mut outage), ["over: connection"]);
        outage.began(kind("pods"), refused());
        assert_eq!(told(&mut outage).len(), 1, "the next outage is told again");
    }

    #[test]
    fn what_is_forbidden_names_what_to_grant() {
        let mut outage = Outage::default();
        let trouble = Trouble::Forbidden("user cannot list".into());
        outage.began(kind("gateways"), trouble.clone());
        outage.began(kind("pods"), trouble);
        let problems = outage.problems(false);
        let of = |name: &str| problems.get(name).expect("told");
        assert!(
            of("pods")
                .remedy
                .contains("get, list and watch on pods (API group \"\")")
        );
        let gateways = of("gateways.gateway.networking.k8s.io");
        assert!(
            gateways
                .remedy
                .contains("gateways (API group \"gateway.networking.k8s.io\")")
        );
        assert!(gateways.what.contains("nothing is decided"));
    }
}
