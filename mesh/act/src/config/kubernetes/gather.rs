//! What the watches tell, as changes for the feed: pure, so that completeness over kinds and relists can be tested.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use decide::model::{ObjectRef, Problem};

use super::{outage::Outage, read::Read, scope::Kind, trouble::Trouble, watch::News};
use crate::config::{
    Change,
    objects::{Object, Origin},
};

/// What a bad object leads to, where there is a good version of it.
const STAYS: &str = "The last good version stays.";
/// Where there is none, but something that restricts.
const RESTRICTS: &str = "Until it is corrected it restricts as far as it could have.";
/// Where there is nothing.
const LEFT_OUT: &str = "It is left out.";

/// Namespace and name.
type Name = (Arc<str>, Arc<str>);

/// What has been told of every kind.
#[derive(Debug)]
pub(super) struct Gather {
    kinds: Vec<Known>,
    outage: Outage,
    complete: bool,
}

/// What has been told of one kind.
#[derive(Debug)]
struct Known {
    kind: &'static Kind,
    /// Every object of which the feed holds something, or a rejection.
    there: HashMap<Name, Held>,
    /// While a list is coming: what it named.
    listing: Option<HashSet<Name>>,
    /// Whether a list was complete once, or nobody waits for one.
    listed: bool,
    /// Whether it is read: of a kind that may be unread.
    sure: bool,
}

/// What the feed holds of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Good,
    /// The last good version; the newest is rejected.
    GoodRejected,
    StandIn,
    /// Nothing: it is rejected.
    Rejected,
}

impl Gather {
    pub(super) fn new(kinds: &'static [Kind]) -> Self {
        let known = |kind| Known {
            kind,
            there: HashMap::new(),
            listing: None,
            listed: false,
            sure: false,
        };
        Self {
            kinds: kinds.iter().map(known).collect(),
            outage: Outage::default(),
            complete: false,
        }
    }

    /// Whether the first list of every kind is there.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Kinds whose first list is not there yet.
    pub(super) fn awaited(&self) -> Vec<&'static str> {
        let awaited = self.kinds.iter().filter(|known| !known.listed);
        awaited.map(|known| known.kind.plural).collect()
    }

    /// How many objects of each kind there are.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.kinds.iter().map(|known| (known.kind.plural, known.there.len()))
    }

    /// Takes in what a watch told: what it changes is appended.
    pub(super) fn take(&mut self, index: usize, news: News, changes: &mut Vec<Change>) {
        let Some(known) = self.kinds.get_mut(index) else {
            return;
        };
        match news {
            News::Heard => self.outage.over(known.kind),
            News::Trouble(trouble) => {
                if known.kind.may_be_unread() && matches!(trouble, Trouble::Forbidden(_)) {
                    known.unread(changes);
                }
                self.outage.began(known.kind, trouble);
            }
            News::Listing => known.listing = Some(HashSet::new()),
            News::Put(read) => known.put(*read, changes),
            News::Gone(object) => known.gone(&object, changes),
            News::Listed => known.end_of_list(changes),
            News::NotServed => {
                self.outage.over(known.kind);
                known.listing = Some(HashSet::new());
                known.end_of_list(changes);
            }
        }
        if !self.complete && self.kinds.iter().all(|known| known.listed) {
            self.complete = true;
            changes.push(Change::Complete);
        }
    }

    /// The problems of what is wrong with the server, as far as they changed.
    pub(super) fn told(&mut self, changes: &mut Vec<Change>) {
        self.outage.changes(self.complete, changes);
    }
}

impl Known {
    fn put(&mut self, read: Read, changes: &mut Vec<Change>) {
        let name = name(read.object());
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        let before = self.there.get(&name).copied();
        let now = match read {
            Read::Good(object, parsed, origin) => {
                if matches!(before, Some(Held::GoodRejected | Held::Rejected)) {
                    changes.push(Change::Accept(object));
                }
                changes.push(Change::Put(Box::new(parsed), origin));
                Held::Good
            }
            Read::Bad(_, problems, stand_in) => bad(before, &problems, stand_in, changes),
        };
        self.there.insert(name, now);
    }

    fn gone(&mut self, object: &ObjectRef, changes: &mut Vec<Change>) {
        let name = name(object);
        if let Some(listing) = &mut self.listing {
            listing.remove(&name);
        }
        if self.there.remove(&name).is_some() {
            changes.push(Change::Delete(object.clone()));
        }
    }

    /// It may not be read, and nobody waits for it: what it would say counts as unknown.
    fn unread(&mut self, changes: &mut Vec<Change>) {
        self.listed = true;
        if std::mem::take(&mut self.sure) && self.kind.is_fence() {
            changes.push(Change::Fences(false));
        }
    }

    /// What the list did not name is gone.
    fn end_of_list(&mut self, changes: &mut Vec<Change>) {
        let Some(named) = self.listing.take() else {
            return;
        };
        self.listed = true;
        if !std::mem::replace(&mut self.sure, true) && self.kind.is_fence() {
            changes.push(Change::Fences(true));
        }
        let kind: Arc<str> = self.kind.kind.into();
        self.there.retain(|name, _| {
            let stays = named.contains(name);
            if !stays {
                changes.push(Change::Delete(ObjectRef {
                    kind: kind.clone(),
                    namespace: name.0.clone(),
                    name: name.1.clone(),
                }));
            }
            stays
        });
    }
}

/// Tells of an object that cannot be taken; what the feed holds of it then.
fn bad(
    before: Option<Held>,
    problems: &[Problem],
    stand_in: Option<(Object, Arc<Origin>)>,
    changes: &mut Vec<Change>,
) -> Held {
    let reject = |consequence: &str, changes: &mut Vec<Change>| {
        changes.extend(so(problems, consequence).into_iter().map(Change::Reject));
    };
    match (before, stand_in) {
        (Some(Held::Good | Held::GoodRejected), _) => {
            reject(STAYS, changes);
            Held::GoodRejected
        }
        (_, Some((object, origin))) => {
            let problems = so(problems, RESTRICTS);
            let origin = Origin {
                problems,
                ..(*origin).clone()
            };
            changes.push(Change::Put(Box::new(object), Arc::new(origin)));
            Held::StandIn
        }
        (_, None) => {
            reject(LEFT_OUT, changes);
            Held::Rejected
        }
    }
}

fn so(problems: &[Problem], consequence: &str) -> Vec<Problem> {
    let with = |problem: &Problem| Problem {
        what: format!("{} {consequence}", problem.what).into(),
        ..problem.clone()
    };
    problems.iter().map(with).collect()
}

fn name(object: &ObjectRef) -> Name {
    (object.namespace.clone(), object.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::kubernetes::{read::read, scope::Scope};

    /// A gather over the kinds of a scope that is asked by kind.
    struct Watches {
        gather: Gather,
        kinds: &'static [Kind],
    }

    impl Watches {
        fn new(scope: &Scope) -> Self {
            let kinds = scope.kinds();
            Self {
                gather: Gather::new(kinds),
                kinds,
            }
        }

        fn say(&mut self, kind: &str, news: News) -> Vec<String> {
            let index = self.kinds.iter().position(|it| it.kind == kind).expect("a kind");
            let mut changes = Vec::new();
            self.gather.take(index, news, &mut changes);
            changes.iter().map(shown).collect()
        }

        fn put(&mut self, kind: &str, value: Value) -> Vec<String> {
            let found = self.kinds.iter().find(|it| it.kind == kind).expect("a kind");
            self.say(kind, News::Put(Box::new(read(found, value))))
        }
    }

    fn shown(change: &Change) -> String {
        match change {
            Change::Put(object, origin) if !origin.problems.is_empty() => format!("stand-in {}", object.key()),
            Change::Put(object, _) => format!("put {}", object.key()),
            Change::Delete(object) => format!("delete {object}"),
            Change::Reject(problem) => format!("reject {}: {}", problem.object, problem.field),
            Change::Accept(object) => format!("accept {object}"),
            Change::Fences(read) => format!("fences {read}"),
            Change::Complete => "complete".into(),
        }
    }

    fn pod(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}})
    }

    fn bad_pod(name: &str) -> Value {
        let mut pod = pod(name);
        pod["spec"] = json!({"hostNetwork": "perhaps"});
        pod
    }

    fn policy(spec: &Value) -> Value {
        json!({"apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "a", "namespace": "shop"}, "spec": spec})
    }

    fn gone(kind: &str, name: &str) -> News {
        News::Gone(ObjectRef {
            kind: kind.into(),
            namespace: "shop".into(),
            name: name.into(),
        })
    }

    #[test]
    fn it_is_complete_when_the_last_kind_is_listed_or_not_served_and_stays_so() {
        let mut watches = Watches::new(&Scope::Authority);
        for kind in ["Namespace", "Pod"] {
            watches.say(kind, News::Listing);
            assert_eq!(watches.say(kind, News::Listed), Vec::<String>::new());
        }
        assert_eq!(watches.say("Gateway", News::NotServed), Vec::<String>::new());
        assert_eq!(
            watches.say("MeshConfig", News::Trouble(Trouble::Forbidden("no".into()))),
            Vec::<String>::new()
        );
        assert_eq!(watches.gather.awaited(), ["meshconfigs"]);
        watches.say("MeshConfig", News::Listing);
        assert_eq!(watches.say("MeshConfig", News::Listed), ["complete"]);
        watches.say("Pod", News::Listing);
        assert_eq!(watches.say("Pod", News::Listed), Vec::<String>::new());
        assert!(watches.gather.is_complete());
    }

    #[test]
    fn network_policies_that_may_not_be_read_hold_nobody_up_and_count_as_unread() {
        let forbidden = || News::Trouble(Trouble::Forbidden("no".into()));
        let mut watches = Watches::new(&Scope::Ztunnel);
        assert_eq!(watches.say("NetworkPolicy", forbidden()), Vec::<String>::new());
        assert!(!watches.gather.awaited().contains(&"networkpolicies"));
        watches.say("NetworkPolicy", News::Listing);
        assert_eq!(watches.say("NetworkPolicy", News::Listed), ["fences true"]);
        assert_eq!(
            watches.say("NetworkPolicy", News::Trouble(Trouble::Unreachable("reset".into()))),
            Vec::<String>::new(),
            "what was known stays"
        );
        assert_eq!(watches.say("NetworkPolicy", forbidden()), ["fences false"]);
        assert_eq!(watches.say("NetworkPolicy", forbidden()), Vec::<String>::new());
        assert_eq!(watches.say("NetworkPolicy", News::NotServed), ["fences true"]);
    }

    #[test]
    fn nodes_that_may_not_be_read_hold_nobody_up_and_what_was_known_of_them_stays() {
        let forbidden = || News::Trouble(Trouble::Forbidden("no".into()));
        let mut watches = Watches::new(&Scope::Ztunnel);
        assert_eq!(watches.say("Node", forbidden()), Vec::<String>::new());
        assert!(!watches.gather.awaited().contains(&"nodes"));
        watches.say("Node", News::Listing);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        assert_eq!(watches.put("Node", node), ["put Node n1"]);
        assert_eq!(watches.say("Node", News::Listed), Vec::<String>::new());
        assert_eq!(watches.say("Node", forbidden()), Vec::<String>::new());
    }

    #[test]
    fn a_list_that_is_broken_off_completes_nothing_and_takes_nothing_away() {
        let mut watches = Watches::new(&Scope::Ztunnel);
        watches.say("Pod", News::Listing);
        watches.put("Pod", pod("a"));
        watches.put("Pod", pod("b"));
        watches.say("Pod", News::Listed);
        watches.say("Pod", News::Listing);
        watches.put("Pod", pod("b"));
        watches.say("Pod", News::Trouble(Trouble::Unreachable("reset".into())));
        watches.say("Pod", News::Listing);
        assert_eq!(watches.put("Pod", pod("a")), ["put Pod shop/a"]);
        assert_eq!(
            watches.say("Pod", News::Listed),
            ["delete Pod shop/b"],
            "the second list alone counts"
        );
        assert_eq!(watches.say("Pod", gone("Pod", "a")), ["delete Pod shop/a"]);
        assert_eq!(watches.say("Pod", gone("Pod", "a")), Vec::<String>::new());
    }

    #[test]
    fn a_kind_that_is_served_no_more_has_no_objects() {
        let mut watches = Watches::new(&Scope::Ztunnel);
        watches.say("AuthorizationPolicy", News::Listing);
        watches.put("AuthorizationPolicy", policy(&json!({})));
        watches.say("AuthorizationPolicy", News::Listed);
        assert_eq!(
            watches.say("AuthorizationPolicy", News::NotServed),
            ["delete AuthorizationPolicy shop/a"]
        );
    }

    #[test]
    fn the_last_good_version_stays_until_a_good_one_comes_or_it_goes() {
        let mut watches = Watches::new(&Scope::Ztunnel);
        assert_eq!(watches.put("Pod", pod("a")), ["put Pod shop/a"]);
        assert_eq!(
            watches.put("Pod", bad_pod("a")),
            ["reject Pod shop/a: spec.hostNetwork"]
        );
        assert_eq!(
            watches.put("Pod", bad_pod("b")),
            ["reject Pod shop/b: spec.hostNetwork"]
        );
        assert_eq!(watches.put("Pod", pod("a")), ["accept Pod shop/a", "put Pod shop/a"]);
        assert_eq!(watches.put("Pod", pod("b")), ["accept Pod shop/b", "put Pod shop/b"]);
        assert_eq!(watches.put("Pod", pod("b")), ["put Pod shop/b"]);
        watches.put("Pod", bad_pod("c"));
        assert_eq!(
            watches.say("Pod", gone("Pod", "c")),
            ["delete Pod shop/c"],
            "and with it what was said of it"
        );
    }

    #[test]
    fn a_policy_that_cannot_be_taken_restricts_where_there_is_no_good_version() {
        let mut watches = Watches::new(&Scope::Ztunnel);
        let bad = policy(&json!({"action": "PERMIT", "rules": [{}]}));
        assert_eq!(
            watches.put("AuthorizationPolicy", bad.clone()),
            ["stand-in AuthorizationPolicy shop/a"]
        );
        let good = policy(&json!({"action": "DENY"}));
        assert_eq!(
            watches.put("AuthorizationPolicy", good),
            ["put AuthorizationPolicy shop/a"]
        );
        assert_eq!(
            watches.put("AuthorizationPolicy", bad),
            ["reject AuthorizationPolicy shop/a: spec.action"]
        );
    }
}
