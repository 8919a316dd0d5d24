//! What goes outside without a waypoint is judged where it comes from.

use super::{
    places::{fixed, port, registry},
    *,
};
use crate::model::{Action, ExternalService, Policy, Resolution, Visibility};
use crate::snapshot::testing::external;

const CLIENT: &str = "cluster.local/ns/demo/sa/client";

fn deny(name: &str, principals: &[&str]) -> Policy {
    Policy {
        action: Action::Deny,
        ..allow("demo", name, &[], principals)
    }
}

fn by(name: &str, field: &str) -> Decider {
    Decider {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "demo".into(),
            name: name.into(),
        },
        field: field.into(),
    }
}

/// Known at 192.0.2.1, judged by these: as it is, at an endpoint, or by a name.
fn judged_by(resolution: Resolution, all: Vec<Policy>) -> ExternalService {
    let endpoints = match resolution {
        Resolution::None => Vec::new(),
        Resolution::Static => vec![fixed("198.51.100.9", None)],
        Resolution::Dns => vec![fixed("db.example", None)],
    };
    ExternalService {
        resolution,
        ports: vec![port(443, 8443)],
        endpoints: endpoints.into(),
        policies: policies(all, Vec::new()),
        ..external("demo", "api", &["api.example"], &["192.0.2.1"])
    }
}

#[test]
fn without_a_waypoint_the_source_judges_what_goes_outside() {
    let broken = Policy {
        broken: Some("spec.rule".into()),
        ..allow("demo", "broken", &[], &[])
    };
    let on_trial = Policy {
        dry_run: true,
        ..deny("trial", &[])
    };
    let denied = |name, field| Some(Refusal::Denied(by(name, field)));
    let cases = [
        (vec![], None),
        (vec![deny("egress", &["cluster.local/ns/demo/sa/other"])], None),
        (vec![allow("demo", "egress", &[], &[CLIENT])], None),
        (vec![on_trial], None),
        (vec![deny("egress", &[CLIENT])], denied("egress", "spec.rules[0]")),
        (
            vec![deny("egress", &[CLIENT]), allow("demo", "all", &[], &[])],
            denied("egress", "spec.rules[0]"),
        ),
        (
            vec![allow("demo", "egress", &[], &["cluster.local/ns/demo/sa/other"])],
            denied("egress", "spec.rules"),
        ),
        (vec![broken], denied("broken", "spec.rule")),
        (
            vec![allow("demo", "get", &["GET"], &[CLIENT])],
            Some(Refusal::WaypointRequired(by("get", "spec.rules[0]"))),
        ),
    ];
    for resolution in [Resolution::None, Resolution::Static, Resolution::Dns] {
        for (all, refusal) in &cases {
            let (snapshot, client) = registry(&[judged_by(resolution, all.clone())]);
            let hop = go(&snapshot, &client, "192.0.2.1:443");
            match (refusal, resolution) {
                (Some(refusal), _) => assert_eq!(hop, Hop::Refuse(refusal.clone()), "{resolution:?}"),
                (None, Resolution::Dns) => assert!(matches!(hop, Hop::Resolve { .. }), "{hop:?}"),
                (None, _) => assert!(matches!(hop, Hop::External { .. }), "{hop:?}"),
            }
        }
    }
}

#[test]
fn an_external_service_is_judged_by_the_port_that_was_addressed() {
    let on = |port: u16| {
        let mut policy = deny("ports", &[]);
        policy.rules[0].to = vec![crate::model::Operation {
            ports: vec![crate::model::PortMatch::Is(port)],
            ..crate::model::Operation::default()
        }];
        let (snapshot, client) = registry(&[judged_by(Resolution::Static, vec![policy])]);
        matches!(go(&snapshot, &client, "192.0.2.1:443"), Hop::Refuse(Refusal::Denied(_)))
    };
    assert!(on(443) && !on(8443));
}

#[test]
fn what_takes_a_waypoint_is_judged_there_and_not_again() {
    let api = ExternalService {
        waypoint: Some(waypoint_key("demo", "way")),
        ..judged_by(Resolution::Static, vec![allow("demo", "get", &["GET"], &[CLIENT])])
    };
    let (mut snapshot, client) = registry(std::slice::from_ref(&api));
    let way = waypoint_pod("demo", "way", "10.1.0.9");
    let standing = waypoint("demo", "way", WaypointFor::Service, &[&way]);
    snapshot.put_workload(Arc::new(way.clone()));
    snapshot.waypoints.insert(standing.key.clone(), Arc::new(standing));
    let to = at("192.0.2.1:443");
    assert_eq!(
        waypoint_for(&go(&snapshot, &client, "192.0.2.1:443")),
        Some(("demo/way".to_owned(), to))
    );
    let api = Arc::new(api);
    let onward = hop_to_external(&snapshot, &way, &api, to, &FIRST);
    assert!(
        matches!(&onward, Hop::External { to, .. } if *to == at("198.51.100.9:8443")),
        "{onward:?}"
    );
    assert_eq!(judging_outside(&snapshot, &way, to, &onward).count(), 0);
    let through = go(&snapshot, &client, "192.0.2.1:443");
    assert_eq!(judging_outside(&snapshot, &client, to, &through).count(), 0);
    // Another waypoint has judged nothing of this.
    let another = waypoint_pod("demo", "another", "10.1.0.10");
    let free = ExternalService {
        waypoint: None,
        ..(*api).clone()
    };
    assert_eq!(
        hop_to_external(&snapshot, &another, &Arc::new(free), to, &FIRST),
        Hop::Refuse(Refusal::Denied(by("get", "spec.rules")))
    );
}

/// The mesh's operator closed port 443 of 203.0.113.0/24; `more` is what a tenant wrote.
fn closed(more: &ExternalService) -> (Snapshot, Workload) {
    let closed = ExternalService {
        ports: vec![port(443, 443)],
        visibility: Visibility::Mesh,
        policies: policies(vec![deny("closed", &[CLIENT])], Vec::new()),
        ..external("weft-system", "closed", &["closed.example"], &["203.0.113.0/24"])
    };
    registry(&[closed, more.clone()])
}

#[test]
fn nobody_slips_out_of_an_external_service_by_another_name() {
    let refused = Hop::Refuse(Refusal::Denied(by("closed", "spec.rules[0]")));
    let mut sly = ExternalService {
        ports: vec![port(443, 443), port(80, 80)],
        endpoints: [fixed("203.0.113.7", None)].into(),
        ..judged_by(Resolution::Static, Vec::new())
    };
    let (mut snapshot, client) = closed(&sly);
    assert_eq!(go(&snapshot, &client, "203.0.113.7:443"), refused);
    assert_eq!(go(&snapshot, &client, "192.0.2.1:443"), refused);
    let about_port_80 = go(&snapshot, &client, "192.0.2.1:80");
    assert!(
        matches!(&about_port_80, Hop::External { to, .. } if *to == at("203.0.113.7:80")),
        "{about_port_80:?}"
    );
    // By a name that resolves there.
    sly.resolution = Resolution::Dns;
    let sly = Arc::new(sly);
    let resolved = hop_to_resolved(&snapshot, &client, &sly, &[at("203.0.113.7:443")], &FIRST);
    assert_eq!(resolved, refused);
    // By a Service with an endpoint there.
    let mut front = service("demo", "front", "10.2.0.7", (80, 443), &[]);
    front.endpoints = [crate::model::Endpoint {
        workload: None,
        address: ip("203.0.113.7"),
        ..endpoint(&client, (80, 443))
    }]
    .into();
    snapshot.put_service(Arc::new(front));
    assert_eq!(go(&snapshot, &client, "10.2.0.7:80"), refused);
}

#[test]
fn what_was_addressed_judges_and_what_describes_where_that_leads() {
    let asked = |endpoint: &str, more: &dyn Fn(&mut Snapshot)| {
        let mut open = ExternalService {
            ports: vec![port(443, 443)],
            endpoints: [fixed(endpoint, None)].into(),
            ..judged_by(Resolution::Static, Vec::new())
        };
        open.hosts = vec!["open.example".into()];
        let (mut snapshot, client) =
            registry(&[open, external("demo", "there", &["there.example"], &["203.0.113.0/24"])]);
        more(&mut snapshot);
        let to = at("192.0.2.1:443");
        let hop = go(&snapshot, &client, "192.0.2.1:443");
        let all = judging_outside(&snapshot, &client, to, &hop);
        let all: Vec<_> = all.map(|(service, asked)| format!("{} {asked}", service.key)).collect();
        (hop, all)
    };
    let (_, all) = asked("198.51.100.9", &|_| {});
    assert_eq!(all, ["demo/api 192.0.2.1:443"]);
    let (_, all) = asked("203.0.113.7", &|_| {});
    assert_eq!(all, ["demo/api 192.0.2.1:443", "demo/there 203.0.113.7:443"]);
    // A pod of the mesh, whose own policies judge besides.
    let (hop, all) = asked("10.1.0.2", &|snapshot| {
        snapshot.put_workload(Arc::new(pod("demo", "web", "10.1.0.2")));
    });
    assert!(matches!(hop, Hop::Tunnel { .. }), "{hop:?}");
    assert_eq!(all, ["demo/api 192.0.2.1:443"]);
}

#[test]
fn what_another_external_service_sends_through_its_waypoint_goes_there_by_any_name() {
    let sly = ExternalService {
        endpoints: [fixed("203.0.113.7", None)].into(),
        ..judged_by(Resolution::Static, Vec::new())
    };
    let bound = ExternalService {
        waypoint: Some(waypoint_key("infra", "way")),
        visibility: Visibility::Mesh,
        ..external("weft-system", "bound", &["bound.example"], &["203.0.113.7"])
    };
    let (snapshot, client) = registry(&[sly, bound]);
    assert_eq!(
        go(&snapshot, &client, "192.0.2.1:443"),
        Hop::Refuse(Refusal::WaypointUnavailable(waypoint_key("infra", "way")))
    );
}
