//! Sets of ports, and which of them a pod's policies guard. Pure.

use std::{collections::BTreeSet, fmt};

use decide::model::{AppliedPolicy, Condition, ConditionKey, MtlsMode, Policy, PolicySet, PortMatch, StringMatch};

/// Some ports, or all but some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// These.
    Only(BTreeSet<u16>),
    /// Every port except these.
    AllBut(BTreeSet<u16>),
}

/// Where nothing may reach a captured pod that the mesh has not seen begin (design 7 and 19).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Here inbound TCP connections older than the rules are reset.
    pub tcp: Ports,
    /// Here new inbound datagrams (UDP, SCTP, DCCP) are dropped.
    pub datagrams: Ports,
    /// Whether outbound TCP connections older than the rules are reset, too: the pod should have been captured all along.
    pub outbound: bool,
}

impl Ports {
    /// No port.
    pub const fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Every port.
    pub const fn all() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    /// These ports.
    pub fn only(ports: impl IntoIterator<Item = u16>) -> Self {
        Self::Only(ports.into_iter().collect())
    }

    /// Every port except these.
    pub fn all_but(ports: impl IntoIterator<Item = u16>) -> Self {
        Self::AllBut(ports.into_iter().collect())
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(ports) if ports.is_empty())
    }

    /// Whether this port is among them.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Only(ports) => ports.contains(&port),
            Self::AllBut(ports) => !ports.contains(&port),
        }
    }

    /// The ports of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(some), Self::Only(others)) => Self::Only(&some | &others),
            (Self::AllBut(some), Self::AllBut(others)) => Self::AllBut(&some & &others),
            (Self::AllBut(but), Self::Only(some)) | (Self::Only(some), Self::AllBut(but)) => Self::AllBut(&but - &some),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::none()
    }
}

impl Guard {
    /// What a pod's policies ask for: under STRICT both; where a policy applies, TCP; where one names a port (in
    /// a rule, or because it came by a Service), that port's datagrams. A policy only tried out asks for nothing.
    pub fn of(policies: &PolicySet) -> Self {
        let of_mode = |wanted| policies.mtls.ports.iter().filter(move |(_, (mode, _))| *mode == wanted);
        let strict = match policies.mtls.default.0 {
            MtlsMode::Permissive => Ports::only(of_mode(MtlsMode::Strict).map(|(port, _)| *port)),
            MtlsMode::Strict => Ports::all_but(of_mode(MtlsMode::Permissive).map(|(port, _)| *port)),
        };
        let unproven = Self {
            tcp: strict.clone(),
            datagrams: strict,
            outbound: false,
        };
        let enforced = policies.policies.iter().filter(|applied| !applied.policy.dry_run);
        enforced.fold(unproven, |guard, applied| Self {
            tcp: guard.tcp.or(bound(applied).unwrap_or(Ports::all())),
            datagrams: guard
                .datagrams
                .or(bound(applied).unwrap_or_else(|| named(&applied.policy))),
            outbound: guard.outbound,
        })
    }
}

/// The ports a policy is bound to, if not to all.
fn bound(applied: &AppliedPolicy) -> Option<Ports> {
    Some(Ports::only(applied.ports.as_ref()?.iter().copied()))
}

/// The ports a policy's rules name. What cannot be understood names every port.
fn named(policy: &Policy) -> Ports {
    if policy.broken.is_some() {
        return Ports::all();
    }
    let rules = policy.rules.iter().map(|rule| {
        if rule.broken.is_some() {
            return Ports::all();
        }
        let operations = rule.to.iter().map(|operation| {
            if operation.broken.is_some() {
                return Ports::all();
            }
            let others = match operation.not_ports.is_empty() {
                true => Ports::none(),
                false => Ports::all(),
            };
            operation.ports.iter().map(matched).fold(others, Ports::or)
        });
        let conditions = rule.when.iter().map(conditioned);
        operations.chain(conditions).fold(Ports::none(), Ports::or)
    });
    rules.fold(Ports::none(), Ports::or)
}

fn matched(port: &PortMatch) -> Ports {
    match port {
        PortMatch::Is(port) => Ports::only([*port]),
        PortMatch::Broken(_) => Ports::all(),
    }
}

fn conditioned(condition: &Condition) -> Ports {
    match &condition.key {
        ConditionKey::DestinationPort if condition.not_values.is_empty() => {
            let values = condition.values.iter().map(|value| match value {
                StringMatch::Exact(port) => port.parse().map_or(Ports::all(), |port| Ports::only([port])),
                _ => Ports::all(),
            });
            values.fold(Ports::none(), Ports::or)
        }
        ConditionKey::DestinationPort | ConditionKey::Unsupported(_) => Ports::all(),
        _ => Ports::none(),
    }
}

/// As nftables writes the right side of `dport`: `{ 80, 443 }`, `!= { 22 }`, nothing for every port.
impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (not, ports) = match self {
            Self::Only(ports) => ("", ports),
            Self::AllBut(ports) => ("!= ", ports),
        };
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        write!(out, "{not}{{ {} }}", list.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use decide::model::{Action, Decider, MtlsRules, ObjectRef, Operation, Rule};
    use proptest::prelude::*;

    use super::*;

    fn object() -> ObjectRef {
        ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: "p".into(),
        }
    }

    fn strict(default: MtlsMode, ports: &[(u16, MtlsMode)]) -> MtlsRules {
        let by = Decider {
            object: object(),
            field: "".into(),
        };
        MtlsRules {
            default: (default, None),
            ports: ports.iter().map(|(port, mode)| (*port, (*mode, by.clone()))).collect(),
        }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy {
            object: object(),
            action: Action::Deny,
            rules,
            dry_run: false,
            broken: None,
        }
    }

    fn to(operation: Operation) -> Rule {
        Rule {
            to: vec![operation],
            ..Rule::default()
        }
    }

    fn guard(policy: Policy, ports: Option<&[u16]>) -> Guard {
        Guard::of(&PolicySet {
            policies: vec![AppliedPolicy {
                policy: Arc::new(policy),
                ports: ports.map(Into::into),
            }],
            ..PolicySet::default()
        })
    }

    #[test]
    fn strict_guards_everything_but_its_exceptions() {
        let of = |mtls| {
            Guard::of(&PolicySet {
                mtls,
                ..PolicySet::default()
            })
        };
        let none = of(strict(MtlsMode::Permissive, &[]));
        assert!(none.tcp.is_none() && none.datagrams.is_none());
        let one = of(strict(
            MtlsMode::Permissive,
            &[(80, MtlsMode::Strict), (81, MtlsMode::Permissive)],
        ));
        assert_eq!((one.tcp, one.datagrams), (Ports::only([80]), Ports::only([80])));
        let rest = of(strict(
            MtlsMode::Strict,
            &[(80, MtlsMode::Strict), (81, MtlsMode::Permissive)],
        ));
        assert_eq!((rest.tcp, rest.datagrams), (Ports::all_but([81]), Ports::all_but([81])));
    }

    #[test]
    fn a_policy_guards_all_tcp_and_the_datagrams_of_the_ports_it_names() {
        let names = |ports: Vec<PortMatch>, not_ports: Vec<PortMatch>| {
            guard(
                policy(vec![to(Operation {
                    ports,
                    not_ports,
                    ..Operation::default()
                })]),
                None,
            )
        };
        assert_eq!(
            names(vec![], vec![]),
            Guard {
                tcp: Ports::all(),
                ..Guard::default()
            }
        );
        assert_eq!(names(vec![PortMatch::Is(53)], vec![]).datagrams, Ports::only([53]));
        assert_eq!(names(vec![], vec![PortMatch::Is(53)]).datagrams, Ports::all());
        assert_eq!(
            names(vec![PortMatch::Broken("x".into())], vec![]).datagrams,
            Ports::all()
        );
        let when = |values: &[&str]| Rule {
            when: vec![Condition {
                key: ConditionKey::DestinationPort,
                values: values.iter().map(|value| StringMatch::Exact((*value).into())).collect(),
                not_values: vec![],
                networks: vec![],
                not_networks: vec![],
            }],
            ..Rule::default()
        };
        assert_eq!(
            guard(policy(vec![when(&["53", "5353"])]), None).datagrams,
            Ports::only([53, 5353])
        );
        assert_eq!(guard(policy(vec![when(&["53", "dns"])]), None).datagrams, Ports::all());
    }

    #[test]
    fn a_policy_that_came_by_a_service_guards_its_ports() {
        let guard = guard(policy(vec![]), Some(&[8080]));
        assert_eq!(
            guard,
            Guard {
                tcp: Ports::only([8080]),
                datagrams: Ports::only([8080]),
                outbound: false
            }
        );
    }

    #[test]
    fn a_broken_policy_guards_everything_and_a_dry_run_nothing() {
        let broken = Policy {
            broken: Some("spec.form".into()),
            ..policy(vec![])
        };
        assert_eq!(
            guard(broken, None),
            Guard {
                tcp: Ports::all(),
                datagrams: Ports::all(),
                outbound: false
            }
        );
        let broken = Rule {
            broken: Some("form".into()),
            ..Rule::default()
        };
        assert_eq!(guard(policy(vec![broken]), None).datagrams, Ports::all());
        let tried = Policy {
            dry_run: true,
            ..policy(vec![])
        };
        assert_eq!(guard(tried, None), Guard::default());
    }

    #[test]
    fn ports_are_written_as_nftables_reads_them() {
        assert_eq!(Ports::only([443, 80]).to_string(), "{ 80, 443 }");
        assert_eq!(Ports::all_but([22]).to_string(), "!= { 22 }");
    }

    fn ports() -> impl Strategy<Value = Ports> {
        let some = prop::collection::btree_set(0_u16..8, 0..5);
        (any::<bool>(), some).prop_map(|(only, some)| if only { Ports::Only(some) } else { Ports::AllBut(some) })
    }

    proptest! {
        #[test]
        fn either_is_either(left in ports(), right in ports(), port in 0_u16..9) {
            let both = left.clone().or(right.clone());
            prop_assert_eq!(both.contains(port), left.contains(port) || right.contains(port));
        }
    }
}
