//! Connections to what lies outside the mesh and is described.

use act::telemetry::FlowOptions;
use decide::model::{
    Action, ExternalEndpoint, ExternalHost, ExternalService, OutboundPolicy, Resolution, Rule, ServiceKey, Source,
    StringMatch, Visibility,
};

use super::{
    mesh::{FOURTH, policy},
    policy::{hears_nothing, stand_in},
    seen::{Log, until},
    *,
};

/// `api.example` at 240.0.0.7, on port 8080 of a host outside.
fn api(waypoint: Option<&str>) -> ExternalService {
    ExternalService {
        key: key("api"),
        hosts: vec!["api.example".into()],
        networks: vec!["240.0.0.7/32".parse().expect("a network")],
        ports: Vec::new(),
        resolution: Resolution::Static,
        endpoints: [ExternalEndpoint {
            host: ExternalHost::Address(ip(OUTSIDE)),
            ports: Box::default(),
            zone: None,
        }]
        .into(),
        visibility: Visibility::Namespace,
        waypoint: waypoint.map(|name| super::waypoint(name, &[]).key),
        policies: Arc::default(),
        broken: None,
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn know(mesh: &mut Mesh, service: &ExternalService) {
    mesh.change(|snapshot| {
        for network in &service.networks {
            let owner = Some(service.key.clone());
            snapshot.external.own_network(service.scope(), *network, owner);
        }
        snapshot.external.put(Arc::new(service.clone()));
    });
}

#[test]
fn what_is_bound_outside_goes_to_its_waypoint_and_nowhere_else() {
    inside(
        "outside::what_is_bound_outside_goes_to_its_waypoint_and_nowhere_else",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("gateway", FOURTH)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let application = application("10.99.0.1:8080").await;
            know(&mut mesh, &api(Some("gateway")));
            for known in [false, true] {
                if known {
                    let nobody = waypoint("gateway", &[]);
                    mesh.change(|snapshot| snapshot.waypoints.insert(nobody.key.clone(), Arc::new(nobody)));
                }
                let mut asking = client.connect("240.0.0.7:8080").await;
                asking
                    .write_all(b"GET / HTTP/1.1\r\nhost: api.example\r\n\r\n")
                    .await
                    .expect("writes");
                let mut answer = String::new();
                let read = timeout(LONG, asking.read_to_string(&mut answer))
                    .await
                    .expect("answers");
                read.expect("an orderly end");
                let reason = "weft-reason: waypoint shop/gateway has no ready pod\r\n";
                assert!(answer.contains(reason), "known: {known}: {answer}");
            }
            let mut asked = stand_in(&mut mesh, "gateway", FOURTH).await;
            let standing = waypoint("gateway", &[&pod("gateway", FOURTH)]);
            mesh.change(|snapshot| snapshot.waypoints.insert(standing.key.clone(), Arc::new(standing)));
            let _refused = client.connect("240.0.0.7:8080").await;
            let authority = timeout(LONG, asked.recv())
                .await
                .expect("in time")
                .expect("it is asked");
            assert_eq!(authority.to_string(), "240.0.0.7:8080");
            hears_nothing(&application).await;
            // Without its label it is reached as it is.
            know(&mut mesh, &api(None));
            let mut ours = client.connect("240.0.0.7:8080").await;
            talk(&mut ours, &mut accepted(&application).await).await;
        },
    );
}

/// Judged by one policy about the identity of the client.
fn judged(action: Action, resolution: Resolution) -> ExternalService {
    let client = Rule {
        from: vec![Source {
            principals: vec![StringMatch::Exact("cluster.local/ns/shop/sa/client".into())],
            ..Source::default()
        }],
        ..Rule::default()
    };
    let set = PolicySet {
        policies: vec![policy("egress", action, vec![client])],
        ..PolicySet::default()
    };
    let mut service = ExternalService {
        resolution,
        policies: Arc::new(set),
        ..api(None)
    };
    if resolution == Resolution::None {
        service.networks = vec!["10.99.0.1/32".parse().expect("a network")];
        service.endpoints = Arc::default();
    }
    service
}

#[test]
fn what_goes_outside_without_a_waypoint_is_judged_where_it_comes_from() {
    inside(
        "outside::what_goes_outside_without_a_waypoint_is_judged_where_it_comes_from",
        || async {
            let (metrics, log) = (FlowOptions::default().install(), Log::start());
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("other", FOURTH)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let other = mesh.capture_and_listen("other", FOURTH);
            let application = application("10.99.0.1:8080").await;
            for (resolution, to) in [
                (Resolution::Static, "240.0.0.7:8080"),
                (Resolution::Dns, "240.0.0.7:8080"),
                (Resolution::None, "10.99.0.1:8080"),
            ] {
                know(&mut mesh, &judged(Action::Allow, resolution));
                let mut ours = client.connect(to).await;
                talk(&mut ours, &mut accepted(&application).await).await;
                assert!(is_reset(&mut other.connect(to).await).await, "{resolution:?}");
                hears_nothing(&application).await;
            }
            let refused = [
                ("reporter", "source"),
                ("response_flags", "DENY"),
                ("source_workload", "other"),
            ];
            until(&metrics, "istio_tcp_connections_failed_total", &refused, 3.0).await;
            let line = log.line(&[("outcome", "refused"), ("reporter", "source")]).await;
            assert_eq!(line["refusal"], "DENY");
            assert_eq!(line["policy"], "AuthorizationPolicy shop/egress spec.rules");
        },
    );
}

#[test]
fn an_open_connection_to_the_outside_is_cut_when_a_change_denies_it() {
    inside(
        "outside::an_open_connection_to_the_outside_is_cut_when_a_change_denies_it",
        || async {
            let (metrics, log) = (FlowOptions::default().install(), Log::start());
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("other", FOURTH)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let other = mesh.capture_and_listen("other", FOURTH);
            let application = application("10.99.0.1:8080").await;
            know(&mut mesh, &api(None));
            let mut ours = client.connect("240.0.0.7:8080").await;
            let mut far = accepted(&application).await;
            talk(&mut ours, &mut far).await;
            let mut spared = other.connect("240.0.0.7:8080").await;
            let mut spared_far = accepted(&application).await;
            talk(&mut spared, &mut spared_far).await;
            know(&mut mesh, &judged(Action::Deny, Resolution::Static));
            assert!(is_reset(&mut ours).await);
            talk(&mut spared, &mut spared_far).await;
            let cut = [("reporter", "source"), ("outcome", "cut"), ("reason", "DENY")];
            until(&metrics, "weft_connections_ended_total", &cut, 1.0).await;
            let line = log.line(&[("outcome", "cut"), ("reporter", "source")]).await;
            assert_eq!(line["policy"], "AuthorizationPolicy shop/egress spec.rules[0]");
            assert_eq!(line["dst.service"], "shop/api");
        },
    );
}

#[test]
fn a_flow_to_the_outside_is_told_by_host_name_and_namespace() {
    inside(
        "outside::a_flow_to_the_outside_is_told_by_host_name_and_namespace",
        || async {
            let metrics = FlowOptions::default().install();
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let application = application("10.99.0.1:8080").await;
            know(&mut mesh, &api(None));
            let mut ours = client.connect("240.0.0.7:8080").await;
            talk(&mut ours, &mut accepted(&application).await).await;
            let labels = [
                ("reporter", "source"),
                ("destination_service", "api.example"),
                ("destination_service_name", "api"),
                ("destination_service_namespace", "shop"),
            ];
            until(&metrics, "istio_tcp_connections_opened_total", &labels, 1.0).await;
        },
    );
}

#[test]
fn a_closed_mesh_reaches_endpoints_outside_of_headless_services_and_nothing_else() {
    inside(
        "outside::a_closed_mesh_reaches_endpoints_outside_of_headless_services_and_nothing_else",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT)]);
            mesh.change(|snapshot| {
                let mut settings = (*snapshot.mesh).clone();
                settings.outbound = OutboundPolicy::RegistryOnly;
                snapshot.mesh = Arc::new(settings);
                let at = "10.99.0.1:8080".parse().expect("an address");
                snapshot.endpoints_outside.insert(at, key("db"));
            });
            let client = mesh.capture_and_listen("client", CLIENT);
            let (known, unknown) = (application("10.99.0.1:8080").await, application("10.99.0.1:8081").await);
            let mut ours = client.connect("10.99.0.1:8080").await;
            talk(&mut ours, &mut accepted(&known).await).await;
            assert!(is_reset(&mut client.connect("10.99.0.1:8081").await).await);
            hears_nothing(&unknown).await;
        },
    );
}
