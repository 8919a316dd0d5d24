//! Connections to what lies outside the mesh and is described.

use act::telemetry::FlowOptions;
use decide::model::{
    ExternalEndpoint, ExternalHost, ExternalService, OutboundPolicy, Resolution, ServiceKey, Visibility,
};

use super::{
    mesh::FOURTH,
    policy::{hears_nothing, stand_in},
    seen::until,
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
