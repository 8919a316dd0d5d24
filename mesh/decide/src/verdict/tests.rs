//! The laws of design 25, and stories.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use proptest::{prelude::*, sample::select};

use super::{naive::Whole, *};
use crate::model::{
    BoundWaypoint, Condition, ConditionKey, IpMatch, MtlsRules, ObjectRef, Operation, PortMatch, Rule, Source,
    StringMatch, WaypointKey,
};

// ---- generators: small alphabets, so that patterns and values meet often ----

const PRINCIPALS: [&str; 4] = ["shop/web", "shop/db", "team/web", "shop2/web"];
const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.1.0.1"];
const PATHS: [&str; 7] = ["/", "/admin", "/admin/", "/admin/x", "/a/x/b", "/a//b", "/a/x/y/b"];
const HOSTS: [&str; 4] = ["web.shop", "web.shop:8080", "db.shop", "x"];
const PORTS: [u16; 3] = [80, 8080, 9090];

/// A request and its caller, owning what facts borrow.
#[derive(Debug, Clone)]
struct Call {
    peer: Option<Identity>,
    address: IpAddr,
    destination: SocketAddr,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    headers: HeaderMap,
}

impl Call {
    fn client(&self) -> Client<'_> {
        Client::Known {
            peer: self.peer.as_ref(),
            address: self.address,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: self.method,
            path: self.path,
            query: "",
            host: self.host,
            headers: &self.headers,
        }
    }

    /// Everything known.
    fn facts(&self) -> Facts<'_> {
        Facts {
            client: self.client(),
            destination: self.destination,
            request: Some(self.request()),
        }
    }

    /// As a ztunnel sees it.
    fn at_l4(&self) -> Facts<'_> {
        Facts {
            request: None,
            ..self.facts()
        }
    }

    /// As a ztunnel sees it behind a waypoint.
    fn behind_waypoint(&self) -> Facts<'_> {
        Facts {
            client: Client::BehindWaypoint,
            ..self.at_l4()
        }
    }

    fn naively_allowed(&self, set: &PolicySet) -> bool {
        naive::allows(
            set,
            Whole {
                peer: self.peer.as_ref(),
                address: self.address,
                destination: self.destination,
                request: self.request(),
            },
        )
    }

    /// The same connection, with another's request.
    fn asking(&self, other: &Self) -> Self {
        Self {
            peer: self.peer.clone(),
            address: self.address,
            destination: self.destination,
            ..other.clone()
        }
    }
}

fn web() -> Identity {
    Identity::new("cluster.local", "shop", "web").unwrap()
}

fn identities() -> impl Strategy<Value = Option<Identity>> {
    (
        select(&PRINCIPALS[..]),
        select(&["cluster.local", "other.org"][..]),
        0..5,
    )
        .prop_map(|(name, domain, plain)| {
            let (namespace, account) = name.split_once('/').unwrap();
            (plain > 0).then(|| Identity::new(domain, namespace, account).unwrap())
        })
}

fn calls() -> impl Strategy<Value = Call> {
    (
        identities(),
        select(&ADDRESSES[..]),
        select(&PORTS[..]),
        select(&["GET", "POST", "GETX"][..]),
        select(&PATHS[..]),
        select(&HOSTS[..]),
        proptest::option::of(select(&["", "gold", "goldfish", "tin"][..])),
    )
        .prop_map(|(peer, address, port, method, path, host, tier)| Call {
            peer,
            address: address.parse().unwrap(),
            destination: SocketAddr::new("10.9.0.1".parse().unwrap(), port),
            method,
            path,
            host,
            headers: tier
                .map(|tier| (HeaderName::from_static("x-tier"), HeaderValue::from_static(tier)))
                .into_iter()
                .collect(),
        })
}

fn patterns(texts: &'static [&'static str]) -> impl Strategy<Value = StringMatch> {
    (select(texts), 0..8, 1_usize..6).prop_map(|(text, kind, cut)| match kind {
        0 => StringMatch::Present,
        1 => StringMatch::Prefix(text.get(..cut).unwrap_or(text).into()),
        2 => StringMatch::Suffix(text.get(text.len().saturating_sub(cut)..).unwrap_or(text).into()),
        _ => StringMatch::Exact(text.into()),
    })
}

/// Mostly empty, as people write them.
fn list<T: std::fmt::Debug + Clone>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![4 => Just(0_usize), 1 => 1..3_usize].prop_flat_map({
        let item = Arc::new(item);
        move |size| proptest::collection::vec(item.clone(), size)
    })
}

fn strings(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<StringMatch>> {
    list(patterns(texts))
}

fn networks() -> impl Strategy<Value = Vec<IpMatch>> {
    let blocks = &["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/8", "192.168.0.0/16"][..];
    list(select(blocks).prop_map(|block| IpMatch::In(block.parse().unwrap())))
}

fn port_lists() -> impl Strategy<Value = Vec<PortMatch>> {
    list(select(&PORTS[..]).prop_map(PortMatch::Is))
}

const FULL_PRINCIPALS: &[&str] = &[
    "cluster.local/ns/shop/sa/web",
    "cluster.local/ns/shop/sa/db",
    "other.org/ns/shop/sa/web",
];
const NAMESPACES: &[&str] = &["shop", "shop2", "team"];
const DOMAINS: &[&str] = &["cluster.local", "other.org"];

fn sources() -> impl Strategy<Value = Source> {
    let who = (
        strings(FULL_PRINCIPALS),
        strings(FULL_PRINCIPALS),
        strings(NAMESPACES),
        strings(NAMESPACES),
    );
    let which = (
        strings(&PRINCIPALS),
        strings(&PRINCIPALS),
        strings(DOMAINS),
        strings(DOMAINS),
    );
    let place = (networks(), networks(), networks(), networks());
    (who, which, place).prop_map(|(who, which, place)| Source {
        principals: who.0,
        not_principals: who.1,
        namespaces: who.2,
        not_namespaces: who.3,
        service_accounts: which.0,
        not_service_accounts: which.1,
        trust_domains: which.2,
        not_trust_domains: which.3,
        ip_blocks: place.0,
        not_ip_blocks: place.1,
        remote_ip_blocks: place.2,
        not_remote_ip_blocks: place.3,
        ..Source::default()
    })
}

fn paths() -> impl Strategy<Value = Vec<StringMatch>> {
    let templates = &["/a/{*}/b", "/a/{**}", "/a/{**}/b", "/{*}", "/{**}", "/admin/{*}"][..];
    let template = select(templates).prop_map(|template| StringMatch::Template(template.into()));
    list(prop_oneof![3 => patterns(&PATHS), 1 => template])
}

fn operations() -> impl Strategy<Value = Operation> {
    const METHODS: &[&str] = &["GET", "POST", "GETX"];
    let hosts = &["web.shop", "WEB.shop", "web.shop:8080", "db.shop", "x"][..];
    (
        (strings(hosts), strings(hosts), port_lists(), port_lists()),
        (strings(METHODS), strings(METHODS), paths(), paths()),
    )
        .prop_map(|(place, what)| Operation {
            hosts: place.0,
            not_hosts: place.1,
            ports: place.2,
            not_ports: place.3,
            methods: what.0,
            not_methods: what.1,
            paths: what.2,
            not_paths: what.3,
            broken: None,
        })
}

fn conditions() -> impl Strategy<Value = Condition> {
    let of = |key: ConditionKey, texts: &'static [&'static str]| {
        (
            proptest::collection::vec(patterns(texts), 1..3),
            strings(texts),
            any::<bool>(),
        )
            .prop_map(move |(values, not_values, swap)| {
                let (values, not_values) = if swap {
                    (not_values, values)
                } else {
                    (values, not_values)
                };
                Condition {
                    key: key.clone(),
                    values,
                    not_values,
                    networks: Vec::new(),
                    not_networks: Vec::new(),
                }
            })
    };
    let at = |key: ConditionKey, block: &'static str| {
        networks().prop_map(move |not_networks| Condition {
            key: key.clone(),
            values: Vec::new(),
            not_values: Vec::new(),
            networks: vec![IpMatch::In(block.parse().unwrap())],
            not_networks,
        })
    };
    prop_oneof![
        3 => of(ConditionKey::RequestHeader("x-tier".into()), &["gold", "goldfish", "tin"]),
        1 => of(ConditionKey::DestinationPort, &["80", "8080"]),
        1 => of(ConditionKey::SourceNamespace, NAMESPACES),
        1 => of(ConditionKey::SourcePrincipal, FULL_PRINCIPALS),
        1 => of(ConditionKey::SourceServiceAccount, &PRINCIPALS),
        1 => at(ConditionKey::SourceIp, "10.0.0.0/24"),
        1 => at(ConditionKey::RemoteIp, "10.0.0.0/24"),
        1 => at(ConditionKey::DestinationIp, "10.9.0.0/16"),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    (list(sources()), list(operations()), list(conditions())).prop_map(|(from, to, when)| Rule {
        from,
        to,
        when,
        broken: None,
    })
}

fn sets() -> impl Strategy<Value = PolicySet> {
    let action = prop_oneof![1 => Just(Action::Custom), 3 => Just(Action::Deny), 4 => Just(Action::Allow)];
    let ports = prop_oneof![3 => Just(None), 1 => proptest::collection::vec(select(&PORTS[..]), 0..3).prop_map(Some)];
    let policy = (action, proptest::collection::vec(rules(), 0..3), ports, 0..10);
    proptest::collection::vec(policy, 0..4).prop_map(|policies| PolicySet {
        policies: policies
            .into_iter()
            .enumerate()
            .map(|(index, (action, rules, ports, dry))| AppliedPolicy {
                policy: Arc::new(Policy {
                    object: object(&format!("p{index}")),
                    action,
                    rules,
                    dry_run: dry == 0,
                    broken: None,
                }),
                ports: ports.map(Into::into),
            })
            .collect(),
        ..PolicySet::default()
    })
}

fn object(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "AuthorizationPolicy".into(),
        namespace: "shop".into(),
        name: name.into(),
    }
}

/// Every policy that has exactly one part more broken than this one.
fn breakages(policy: &Policy) -> Vec<Policy> {
    let bad: Arc<str> = "bad".into();
    let mut broken = Vec::new();
    let mut with = |change: &dyn Fn(&mut Policy)| {
        let mut copy = policy.clone();
        change(&mut copy);
        broken.push(copy);
    };
    with(&|policy| policy.broken = Some(bad.clone()));
    for (r, rule) in policy.rules.iter().enumerate() {
        with(&|policy| policy.rules[r].broken = Some(bad.clone()));
        for (s, source) in rule.from.iter().enumerate() {
            with(&|policy| policy.rules[r].from[s].broken = Some(bad.clone()));
            for l in 0..10 {
                with(&|policy| ruin(string_lists(&mut policy.rules[r].from[s])[l]));
            }
            for l in 0..network_lists(&mut source.clone()).len() {
                with(&|policy| ruin(network_lists(&mut policy.rules[r].from[s])[l]));
            }
        }
        for o in 0..rule.to.len() {
            with(&|policy| policy.rules[r].to[o].broken = Some(bad.clone()));
            for l in 0..6 {
                with(&|policy| ruin(operation_lists(&mut policy.rules[r].to[o])[l]));
            }
            with(&|policy| ruin(&mut policy.rules[r].to[o].ports));
            with(&|policy| ruin(&mut policy.rules[r].to[o].not_ports));
        }
        for c in 0..rule.when.len() {
            with(&|policy| policy.rules[r].when[c].key = ConditionKey::Unsupported(bad.clone()));
            with(&|policy| ruin(&mut policy.rules[r].when[c].values));
            with(&|policy| ruin(&mut policy.rules[r].when[c].not_values));
            with(&|policy| ruin(&mut policy.rules[r].when[c].networks));
            with(&|policy| ruin(&mut policy.rules[r].when[c].not_networks));
        }
    }
    broken
}

trait Ruined {
    fn ruined() -> Self;
}

impl Ruined for StringMatch {
    fn ruined() -> Self {
        Self::Broken("bad".into())
    }
}

impl Ruined for IpMatch {
    fn ruined() -> Self {
        Self::Broken("10.0.0.0/99".into())
    }
}

impl Ruined for PortMatch {
    fn ruined() -> Self {
        Self::Broken("http".into())
    }
}

/// Replaces the last value, as a typing mistake would; a list of none stays.
fn ruin<T: Ruined>(list: &mut [T]) {
    if let Some(last) = list.last_mut() {
        *last = T::ruined();
    }
}

fn string_lists(source: &mut Source) -> [&mut Vec<StringMatch>; 10] {
    [
        &mut source.principals,
        &mut source.not_principals,
        &mut source.request_principals,
        &mut source.not_request_principals,
        &mut source.namespaces,
        &mut source.not_namespaces,
        &mut source.service_accounts,
        &mut source.not_service_accounts,
        &mut source.trust_domains,
        &mut source.not_trust_domains,
    ]
}

fn network_lists(source: &mut Source) -> [&mut Vec<IpMatch>; 4] {
    [
        &mut source.ip_blocks,
        &mut source.not_ip_blocks,
        &mut source.remote_ip_blocks,
        &mut source.not_remote_ip_blocks,
    ]
}

fn operation_lists(operation: &mut Operation) -> [&mut Vec<StringMatch>; 6] {
    [
        &mut operation.hosts,
        &mut operation.not_hosts,
        &mut operation.methods,
        &mut operation.not_methods,
        &mut operation.paths,
        &mut operation.not_paths,
    ]
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::NeedsWaypoint(_) => "needs waypoint",
    }
}

// ---- the laws ----

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn with_everything_known_the_verdict_is_the_naive_one(set in sets(), call in calls()) {
        let expected = if call.naively_allowed(&set) { "allow" } else { "deny" };
        prop_assert_eq!(kind(&verdict(&set, &call.facts())), expected);
    }

    #[test]
    fn allow_at_l4_allows_every_request_and_deny_denies_every_request(
        set in sets(),
        call in calls(),
        others in proptest::collection::vec(calls(), 12),
    ) {
        let early = verdict(&set, &call.at_l4());
        for other in &others {
            let allowed = call.asking(other).naively_allowed(&set);
            match &early {
                Verdict::Allow(_) => prop_assert!(allowed, "{early:?} but refused: {other:?}"),
                Verdict::Deny(_) => prop_assert!(!allowed, "{early:?} but allowed: {other:?}"),
                Verdict::NeedsWaypoint(_) => {}
            }
        }
    }

    #[test]
    fn behind_a_waypoint_allow_and_deny_hold_for_every_client(
        set in sets(),
        call in calls(),
        others in proptest::collection::vec(calls(), 12),
    ) {
        let early = verdict(&set, &call.behind_waypoint());
        for mut other in others {
            other.destination = call.destination;
            let allowed = other.naively_allowed(&set);
            match &early {
                Verdict::Allow(_) => prop_assert!(allowed),
                Verdict::Deny(_) => prop_assert!(!allowed),
                Verdict::NeedsWaypoint(_) => {}
            }
        }
    }

    #[test]
    fn what_a_waypoint_allows_the_destination_never_refuses_it(set in sets(), call in calls()) {
        if let Verdict::Allow(_) = verdict(&set, &call.facts()) {
            prop_assert_ne!(kind(&verdict(&set, &call.behind_waypoint())), "deny");
            prop_assert_ne!(kind(&verdict(&set, &call.at_l4())), "deny");
        }
    }

    #[test]
    fn the_order_of_policies_and_rules_does_not_matter(set in sets(), call in calls(), by in 0_usize..4) {
        let mut turned = set.clone();
        turned.policies.reverse();
        for applied in &mut turned.policies {
            let rules = &mut Arc::make_mut(&mut applied.policy).rules;
            let by = by % rules.len().max(1);
            rules.rotate_left(by);
        }
        for facts in [call.facts(), call.at_l4(), call.behind_waypoint()] {
            prop_assert_eq!(kind(&verdict(&set, &facts)), kind(&verdict(&turned, &facts)));
        }
    }

    #[test]
    fn a_broken_part_never_turns_a_refusal_into_an_allow(set in sets(), call in calls()) {
        // Returning instead of assuming: half of what is generated is allowed, and that is no failure to generate.
        if call.naively_allowed(&set) {
            return Ok(());
        }
        for (index, applied) in set.policies.iter().enumerate() {
            for broken in breakages(&applied.policy) {
                let mut worse = set.clone();
                worse.policies[index].policy = Arc::new(broken);
                for facts in [call.facts(), call.at_l4(), call.behind_waypoint()] {
                    let answer = verdict(&worse, &facts);
                    prop_assert_ne!(kind(&answer), "allow", "by {:?}", worse.policies[index]);
                }
            }
        }
    }

    #[test]
    fn with_broken_parts_too_l4_never_contradicts_l7(set in sets(), call in calls()) {
        for (index, applied) in set.policies.iter().enumerate() {
            for broken in breakages(&applied.policy) {
                let mut set = set.clone();
                set.policies[index].policy = Arc::new(broken);
                let whole = kind(&verdict(&set, &call.facts()));
                prop_assert_ne!(whole, "needs waypoint");
                for facts in [call.at_l4(), call.behind_waypoint()] {
                    let early = kind(&verdict(&set, &facts));
                    prop_assert!(early == "needs waypoint" || early == whole);
                }
            }
        }
    }

    #[test]
    fn dry_run_policies_never_change_the_verdict(set in sets(), call in calls()) {
        let mut without = set.clone();
        without.policies.retain(|applied| !applied.policy.dry_run);
        prop_assert_eq!(verdict(&set, &call.facts()), verdict(&without, &call.facts()));
        prop_assert_eq!(dry_run(&without, &call.facts()), None);
    }
}

// ---- stories ----

proptest! {
    #[test]
    fn a_trial_is_the_difference_that_enforcing_makes(set in sets(), call in calls()) {
        let admitted = |set: &PolicySet| admit(set, call.peer.as_ref(), call.address, call.destination);
        let mut enforced = set.clone();
        for applied in &mut enforced.policies {
            Arc::make_mut(&mut applied.policy).dry_run = false;
        }
        let told = trial(&set, call.peer.as_ref(), call.address, call.destination);
        prop_assert_eq!(told.is_some(), admitted(&set).is_ok() && admitted(&enforced).is_err());
    }
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AppliedPolicy {
    AppliedPolicy {
        policy: Arc::new(Policy {
            object: object(name),
            action,
            rules,
            dry_run: false,
            broken: None,
        }),
        ports: None,
    }
}

fn set(policies: Vec<AppliedPolicy>) -> PolicySet {
    PolicySet {
        policies,
        ..PolicySet::default()
    }
}

fn from_web() -> Vec<Source> {
    vec![Source {
        principals: vec![exact("cluster.local/ns/shop/sa/web")],
        ..Source::default()
    }]
}

fn to_path(path: StringMatch) -> Vec<Operation> {
    vec![Operation {
        paths: vec![path],
        ..Operation::default()
    }]
}

fn rule(from: Vec<Source>, to: Vec<Operation>) -> Rule {
    Rule {
        from,
        to,
        ..Rule::default()
    }
}

fn get(peer: Option<Identity>, path: &'static str) -> Call {
    Call {
        peer,
        address: "10.0.0.1".parse().unwrap(),
        destination: "10.9.0.1:8080".parse().unwrap(),
        method: "GET",
        path,
        host: "web.shop",
        headers: HeaderMap::new(),
    }
}

fn by(name: &str, field: &str) -> Decider {
    Decider {
        object: object(name),
        field: field.into(),
    }
}

#[test]
fn without_policies_everybody_may() {
    let call = get(None, "/");
    for facts in [call.facts(), call.at_l4(), call.behind_waypoint()] {
        assert_eq!(verdict(&set(vec![]), &facts), Verdict::Allow(None));
    }
}

#[test]
fn deny_wins_over_allow_and_the_rule_is_named() {
    let set = set(vec![
        policy(
            "no-admin",
            Action::Deny,
            vec![
                rule(vec![], to_path(exact("/other"))),
                rule(vec![], to_path(exact("/admin"))),
            ],
        ),
        policy("web", Action::Allow, vec![rule(from_web(), vec![])]),
    ]);
    assert_eq!(
        verdict(&set, &get(Some(web()), "/admin").facts()),
        Verdict::Deny(by("no-admin", "spec.rules[1]"))
    );
    assert_eq!(
        verdict(&set, &get(Some(web()), "/").facts()),
        Verdict::Allow(Some(by("web", "spec.rules[0]")))
    );
    assert_eq!(
        verdict(&set, &get(None, "/").facts()),
        Verdict::Deny(by("web", "spec.rules"))
    );
}

#[test]
fn an_allow_without_rules_permits_nothing_and_a_deny_without_rules_refuses_nothing() {
    let call = get(Some(web()), "/");
    let allow_nothing = set(vec![policy("none", Action::Allow, vec![])]);
    assert_eq!(
        verdict(&allow_nothing, &call.at_l4()),
        Verdict::Deny(by("none", "spec.rules"))
    );
    let deny_nothing = set(vec![policy("none", Action::Deny, vec![])]);
    assert_eq!(verdict(&deny_nothing, &call.at_l4()), Verdict::Allow(None));
}

#[test]
fn an_l7_rule_needs_a_waypoint_only_from_those_it_could_concern() {
    let set = set(vec![policy(
        "admin",
        Action::Deny,
        vec![rule(from_web(), to_path(exact("/admin")))],
    )]);
    let other = Identity::new("cluster.local", "shop", "db").unwrap();
    assert_eq!(
        verdict(&set, &get(Some(web()), "/").at_l4()),
        Verdict::NeedsWaypoint(by("admin", "spec.rules[0]"))
    );
    assert_eq!(verdict(&set, &get(Some(other), "/").at_l4()), Verdict::Allow(None));
}

#[test]
fn a_policy_binds_only_the_ports_it_covers() {
    let mut applied = policy("closed", Action::Allow, vec![]);
    applied.ports = Some([80].into());
    let set = set(vec![applied]);
    assert_eq!(verdict(&set, &get(None, "/").at_l4()), Verdict::Allow(None));
    let mut on_80 = get(None, "/");
    on_80.destination.set_port(80);
    assert_eq!(kind(&verdict(&set, &on_80.at_l4())), "deny");
}

#[test]
fn custom_refuses_what_its_rules_match() {
    let set = set(vec![policy(
        "ask",
        Action::Custom,
        vec![rule(vec![], to_path(exact("/admin")))],
    )]);
    assert_eq!(kind(&verdict(&set, &get(None, "/admin").facts())), "deny");
    assert_eq!(kind(&verdict(&set, &get(None, "/").facts())), "allow");
    assert_eq!(kind(&verdict(&set, &get(None, "/").at_l4())), "needs waypoint");
}

#[test]
fn a_broken_policy_refuses_what_it_covers_whatever_its_action() {
    for action in [Action::Custom, Action::Deny, Action::Allow] {
        let mut applied = policy("typo", action, vec![rule(from_web(), vec![])]);
        Arc::make_mut(&mut applied.policy).broken = Some("spec.rulez".into());
        let set = set(vec![applied]);
        assert_eq!(
            verdict(&set, &get(Some(web()), "/").facts()),
            Verdict::Deny(by("typo", "spec.rulez"))
        );
    }
}

#[test]
fn the_good_values_of_an_allow_list_still_match() {
    let allow = |namespaces: Vec<StringMatch>, not_namespaces: Vec<StringMatch>| {
        set(vec![policy(
            "list",
            Action::Allow,
            vec![rule(
                vec![Source {
                    namespaces,
                    not_namespaces,
                    ..Source::default()
                }],
                vec![],
            )],
        )])
    };
    let call = get(Some(web()), "/");
    let bad = || StringMatch::Broken("[".into());
    assert_eq!(
        kind(&verdict(&allow(vec![bad(), exact("shop")], vec![]), &call.facts())),
        "allow"
    );
    assert_eq!(kind(&verdict(&allow(vec![bad()], vec![]), &call.facts())), "deny");
    assert_eq!(
        kind(&verdict(&allow(vec![], vec![bad(), exact("team")]), &call.facts())),
        "deny"
    );
}

#[test]
fn request_principals_are_never_honoured() {
    let rules = |positive: bool| {
        let any = vec![StringMatch::Present];
        let source = if positive {
            Source {
                request_principals: any,
                ..Source::default()
            }
        } else {
            Source {
                not_request_principals: any,
                ..Source::default()
            }
        };
        vec![rule(vec![source], vec![])]
    };
    let call = get(Some(web()), "/");
    for positive in [true, false] {
        for action in [Action::Allow, Action::Deny] {
            let set = set(vec![policy("jwt", action, rules(positive))]);
            assert_eq!(kind(&verdict(&set, &call.facts())), "deny", "{action:?} {positive}");
            assert_eq!(kind(&verdict(&set, &call.at_l4())), "deny", "{action:?} {positive}");
        }
    }
}

#[test]
fn a_plaintext_client_has_no_identity() {
    let wanted = set(vec![policy(
        "any",
        Action::Allow,
        vec![rule(
            vec![Source {
                principals: vec![StringMatch::Present],
                ..Source::default()
            }],
            vec![],
        )],
    )]);
    let unwanted = set(vec![policy(
        "not-shop",
        Action::Deny,
        vec![rule(
            vec![Source {
                not_namespaces: vec![exact("shop")],
                ..Source::default()
            }],
            vec![],
        )],
    )]);
    for set in [wanted, unwanted] {
        assert_eq!(kind(&verdict(&set, &get(None, "/").at_l4())), "deny");
        assert_eq!(kind(&verdict(&set, &get(Some(web()), "/").at_l4())), "allow");
    }
}

#[test]
fn a_repeated_header_is_never_read_the_lenient_way() {
    let when = |values: &[&str], not_values: &[&str]| {
        let all = |texts: &[&str]| texts.iter().map(|text| exact(text)).collect();
        vec![Rule {
            when: vec![Condition {
                key: ConditionKey::RequestHeader("x-user".into()),
                values: all(values),
                not_values: all(not_values),
                networks: vec![],
                not_networks: vec![],
            }],
            ..Rule::default()
        }]
    };
    let mut call = get(Some(web()), "/");
    call.headers.append("x-user", HeaderValue::from_static("eve"));
    call.headers.append("x-user", HeaderValue::from_static("ann"));
    for (name, set) in [
        ("deny eve", set(vec![policy("p", Action::Deny, when(&["eve"], &[]))])),
        ("deny ann", set(vec![policy("p", Action::Deny, when(&["ann"], &[]))])),
        (
            "deny all but ann",
            set(vec![policy("p", Action::Deny, when(&[], &["ann"]))]),
        ),
        ("allow ann", set(vec![policy("p", Action::Allow, when(&["ann"], &[]))])),
        (
            "allow all but eve",
            set(vec![policy("p", Action::Allow, when(&[], &["eve"]))]),
        ),
    ] {
        assert_eq!(kind(&verdict(&set, &call.facts())), "deny", "{name}");
    }
    let joined = set(vec![policy("p", Action::Allow, when(&["eve,ann"], &[]))]);
    assert_eq!(kind(&verdict(&joined, &call.facts())), "allow");
}

#[test]
fn a_condition_that_cannot_be_honoured_never_widens() {
    for key in [
        ConditionKey::Unsupported("request.auth.claims[iss]".into()),
        ConditionKey::RequestHeader(":path".into()),
        ConditionKey::RequestHeader("no header".into()),
    ] {
        for action in [Action::Allow, Action::Deny] {
            let rule = Rule {
                when: vec![Condition {
                    key: key.clone(),
                    values: vec![exact("x")],
                    not_values: vec![],
                    networks: vec![],
                    not_networks: vec![],
                }],
                ..Rule::default()
            };
            let set = set(vec![policy("odd", action, vec![rule])]);
            assert_eq!(kind(&verdict(&set, &get(None, "/").facts())), "deny", "{key:?}");
        }
    }
}

#[test]
fn paths_and_hosts_match_as_istio_documents() {
    let template = |text: &str| StringMatch::Template(text.into());
    for (pattern, path, fits) in [
        (template("/foo/{*}"), "/foo/bar", true),
        (template("/foo/{*}"), "/foo/bar/baz", false),
        (template("/foo/{*}"), "/foo/", false),
        (template("/foo/{**}/"), "/foo/bar/", true),
        (template("/foo/{**}/"), "/foo/bar/baz/", true),
        (template("/foo/{**}/"), "/foo//", true),
        (template("/foo/{**}/"), "/foo/bar", false),
        (template("/foo/{*}/bar/{**}"), "/foo/buzz/bar/", true),
        (template("/foo/{*}/bar/{**}"), "/foo/buzz/bar/baz/x", true),
        (template("/foo/{**}"), "/foo", false),
        (template("/{**}/{*}"), "/a/b", false),
        (template("/x{*}"), "/xa", false),
        (StringMatch::Prefix("/foo".into()), "/foobar", true),
        (StringMatch::Suffix(".html".into()), "/a/b.html", true),
        (StringMatch::Present, "/", true),
        (StringMatch::Present, "", false),
        (exact("/foo"), "/foo/", false),
    ] {
        assert_eq!(matches::path(&pattern, path), fits, "{pattern:?} {path}");
    }
    for (pattern, host, fits) in [
        (exact("Web.Shop"), "web.shop:8080", true),
        (exact("web.shop:8080"), "web.shop:8080", true),
        (exact("web.shop:8080"), "web.shop", false),
        (StringMatch::Suffix(".shop".into()), "web.shop:80", true),
        (StringMatch::Prefix("WEB.".into()), "web.shop", true),
        (exact("[::1]"), "[::1]:8080", true),
        (exact("web.shop"), "web.shop.evil", false),
    ] {
        assert_eq!(matches::host(&pattern, host), fits, "{pattern:?} {host}");
    }
}

#[test]
fn an_address_mapped_into_ipv6_is_the_ipv4_address() {
    let set = set(vec![policy(
        "block",
        Action::Deny,
        vec![rule(
            vec![Source {
                ip_blocks: vec![IpMatch::In("10.0.0.0/8".parse().unwrap())],
                ..Source::default()
            }],
            vec![],
        )],
    )]);
    let mut call = get(None, "/");
    call.address = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(kind(&verdict(&set, &call.at_l4())), "deny");
}

#[test]
fn a_dry_run_policy_is_reported_and_not_enforced() {
    let mut applied = policy("trial", Action::Deny, vec![rule(vec![], to_path(exact("/admin")))]);
    Arc::make_mut(&mut applied.policy).dry_run = true;
    let set = set(vec![applied]);
    let call = get(None, "/admin");
    assert_eq!(verdict(&set, &call.facts()), Verdict::Allow(None));
    assert_eq!(dry_run(&set, &call.facts()), Some(by("trial", "spec.rules[0]")));
    assert_eq!(dry_run(&set, &get(None, "/").facts()), None);
    assert_eq!(dry_run(&set, &call.at_l4()), None);
}

#[test]
fn a_trial_tells_by_whom_a_connection_would_be_refused() {
    let on_trial = |action, rule| {
        let mut applied = policy("trial", action, vec![rule]);
        Arc::make_mut(&mut applied.policy).dry_run = true;
        applied
    };
    let from_web = || rule(from_web(), vec![]);
    let get_admin = || rule(vec![], to_path(exact("/admin")));
    let other = Identity::new("cluster.local", "shop", "other").unwrap();
    let first = || Some(by("trial", "spec.rules[0]"));
    let none = || Some(by("trial", "spec.rules"));
    let told = |set: &PolicySet, peer: &Identity| {
        let (client, to) = ("10.0.0.1".parse().unwrap(), "10.9.0.1:8080".parse().unwrap());
        assert!(admit(set, Some(peer), client, to).is_ok(), "a trial refuses nothing");
        trial(set, Some(peer), client, to)
    };
    for (policy, of_web, of_other) in [
        (on_trial(Action::Deny, from_web()), first(), None),
        (on_trial(Action::Allow, from_web()), None, none()),
        (on_trial(Action::Deny, get_admin()), first(), first()),
        (on_trial(Action::Allow, get_admin()), first(), first()),
    ] {
        let set = set(vec![policy]);
        assert_eq!((told(&set, &web()), told(&set, &other)), (of_web, of_other), "{set:?}");
    }
    let beside = set(vec![
        policy("real", Action::Allow, vec![from_web(), rule(vec![], vec![])]),
        on_trial(Action::Allow, from_web()),
    ]);
    assert_eq!(told(&beside, &other), None, "another policy allows it anyway");
    let bound = bound(set(vec![on_trial(Action::Deny, get_admin())]), None);
    assert_eq!(told(&bound, &waypoint()), None, "the waypoint judges that");
}

// ---- admit ----

fn waypoint() -> Identity {
    Identity::new("cluster.local", "shop", "waypoint").unwrap()
}

fn bound(mut set: PolicySet, ports: Option<&[u16]>) -> PolicySet {
    set.waypoints.push(BoundWaypoint {
        key: WaypointKey {
            namespace: "shop".into(),
            name: "waypoint".into(),
        },
        identity: waypoint(),
        ports: ports.map(Into::into),
    });
    set
}

fn admitted(set: &PolicySet, peer: Option<&Identity>) -> Result<Option<Decider>, Refusal> {
    admit(set, peer, "10.0.0.1".parse().unwrap(), "10.9.0.1:8080".parse().unwrap())
}

#[test]
fn strict_refuses_plaintext_on_the_ports_it_names() {
    let strict = by("strict", "spec.mtls.mode");
    let mut set = set(vec![]);
    set.mtls = MtlsRules {
        default: (MtlsMode::Strict, Some(strict.clone())),
        ports: [(8080, (MtlsMode::Permissive, by("strict", "spec.portLevelMtls")))].into(),
    };
    assert_eq!(admitted(&set, None), Ok(None));
    set.mtls.ports.clear();
    assert_eq!(admitted(&set, None), Err(Refusal::PlaintextRefused(Some(strict))));
    assert_eq!(admitted(&set, Some(&web())), Ok(None));
}

#[test]
fn only_a_bound_waypoint_passes_an_l7_rule() {
    let l7 = || {
        set(vec![policy(
            "admin",
            Action::Deny,
            vec![rule(vec![], to_path(exact("/admin")))],
        )])
    };
    let needs = Err(Refusal::WaypointRequired(by("admin", "spec.rules[0]")));
    assert_eq!(admitted(&l7(), Some(&waypoint())), needs);
    assert_eq!(admitted(&bound(l7(), Some(&[80])), Some(&waypoint())), needs);
    assert_eq!(admitted(&bound(l7(), Some(&[8080])), Some(&waypoint())), Ok(None));
    assert_eq!(admitted(&bound(l7(), None), Some(&web())), needs);
    assert_eq!(admitted(&bound(l7(), None), None), needs);
}

#[test]
fn a_bound_waypoint_is_still_refused_what_no_client_may() {
    let closed = || {
        let port = Operation {
            ports: vec![PortMatch::Is(8080)],
            ..Operation::default()
        };
        set(vec![policy("closed", Action::Deny, vec![rule(vec![], vec![port])])])
    };
    let denied = Err(Refusal::Denied(by("closed", "spec.rules[0]")));
    assert_eq!(admitted(&bound(closed(), None), Some(&waypoint())), denied);
    let only_web = || set(vec![policy("web", Action::Allow, vec![rule(from_web(), vec![])])]);
    assert_eq!(admitted(&bound(only_web(), None), Some(&waypoint())), Ok(None));
    assert_eq!(
        admitted(&only_web(), Some(&waypoint())),
        Err(Refusal::Denied(by("web", "spec.rules")))
    );
}
