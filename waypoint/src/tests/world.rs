//! A mesh of one waypoint, a client, and the pods `a` and `b` behind the Service `web` (10.2.0.1:80).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use act::{
    certs::{BoxFuture, Certificates, Hold, local::LocalAuthority},
    config::Reader,
    hbone::{Connect, Pool, PoolOptions, StreamIo, Target, Traceparent, TunnelOptions},
    net::Dialer,
    resolve::{Ask, Found, Resolver},
};
use decide::{
    model::{
        Action, AppliedPolicy, Backend, BoundWaypoint, Capture, Endpoint, Fence, HttpRoute, Identity, Labels,
        MeshSettings, ObjectRef, Operation, PathMatch, Phase, Policy, PolicySet, Refusal, RouteMatch, RouteRule, Rule,
        Service, ServiceKey, ServicePort, Source, StringMatch, Waypoint as WaypointObject, WaypointFor, WaypointKey,
        Workload,
    },
    snapshot::Snapshot,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::servers::Server;
use crate::{
    inbound,
    reach::{Destination, Network, Reach, Reached},
    upstream::UpstreamOptions,
    waypoint::{Settings, Shared, Waypoint},
};

/// Generous: nothing waits for it unless something is wrong.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct World {
    pub(super) snapshot: Mutex<Snapshot>,
    pub(super) network: Arc<Mapped>,
    pub(super) draining: CancellationToken,
    pub(super) waypoint: Arc<Waypoint>,
    publish: Box<dyn Fn(Snapshot)>,
    authority: Arc<LocalAuthority>,
    address: SocketAddr,
    pool: Pool,
    _hold: Hold,
}

/// The network, with the mesh's addresses on loopback, noting who was reached.
pub(super) struct Mapped {
    network: Network,
    pub(super) addresses: Mutex<HashMap<SocketAddr, SocketAddr>>,
    pub(super) reached: Mutex<Vec<SocketAddr>>,
    pub(super) traces: Mutex<Vec<Option<Traceparent>>>,
}

impl Reach for Mapped {
    fn reach<'a>(
        &'a self,
        own: &'a Workload,
        to: &'a Destination,
        trace: Option<Traceparent>,
    ) -> BoxFuture<'a, Result<Reached, Refusal>> {
        Box::pin(async move {
            self.reached.lock().unwrap().push(to.address);
            self.traces.lock().unwrap().push(trace);
            let mut to = to.clone();
            let real = |address: &SocketAddr| {
                let nobody = "127.0.0.1:1".parse().unwrap();
                self.addresses.lock().unwrap().get(address).copied().unwrap_or(nobody)
            };
            match &mut to.tunnel {
                Some(tunnel) => tunnel.dial = real(&tunnel.dial),
                None => to.address = real(&to.address),
            }
            self.network.reach(own, &to, trace).await
        })
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        max_tunnels: 100,
        max_requests: 100,
        max_streams: 100,
        max_headers: 20,
        max_head: 16 * 1024,
        head_timeout: Duration::from_secs(10),
        detect_timeout: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        hold: Duration::from_secs(5),
        resolve: Duration::from_secs(5),
        tunnel: TunnelOptions::default(),
        upstream: UpstreamOptions {
            idle_each: 10,
            idle_all: 100,
            idle: Duration::from_secs(30),
            age: Duration::from_secs(600),
            headers: 100,
            head: 64 * 1024,
            stream_window: 1 << 20,
            connection_window: 8 << 20,
        },
    }
}

impl World {
    /// The waypoint `shop/waypoint`, bound to `web`, in front of `a` and `b`.
    pub(super) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let authority = Arc::new(LocalAuthority::new().unwrap());
        let certificates = Certificates::new(authority.clone());
        let identity = identity("waypoint");
        let hold = certificates.hold(&identity);
        let (publisher, reader) = Reader::new(Snapshot::empty(Arc::default()));
        let network = Arc::new(Mapped {
            network: Network {
                pool: Pool::new(PoolOptions::default()),
                certificates: certificates.clone(),
                identity: identity.clone(),
                dialer: Dialer::own(),
                patience: Duration::from_secs(5),
            },
            addresses: Mutex::default(),
            reached: Mutex::default(),
            traces: Mutex::default(),
        });
        let draining = CancellationToken::new();
        let shared = Shared {
            tunnels: Arc::new(Semaphore::new(settings.max_tunnels)),
            requests: Arc::new(Semaphore::new(settings.max_requests)),
            settings,
            key: key(),
            pod: ("shop".into(), "waypoint-0".into()),
            identity,
            reader,
            certificates,
            names: names(),
            draining: draining.clone(),
        };
        let waypoint = Waypoint::new(shared, network.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = waypoint.clone();
        tokio::spawn(async move {
            loop {
                let (socket, from) = listener.accept().await.unwrap();
                tokio::spawn(inbound::tunnel(accepting.clone(), socket, from));
            }
        });
        let world = Self {
            snapshot: Mutex::new(mesh()),
            network,
            draining,
            waypoint,
            publish: Box::new(move |snapshot| publisher.publish(snapshot)),
            authority,
            address,
            pool: Pool::new(PoolOptions::default()),
            _hold: hold,
        };
        world.change(|_| {});
        world
    }

    /// Changes the configuration; in force when this returns.
    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.lock().unwrap();
        change(&mut snapshot);
        snapshot.version += 1;
        (self.publish)(snapshot.clone());
    }

    /// A server in this pod's place: HBONE if the pod is captured, else plain.
    pub(super) async fn server(&self, name: &str, address: &str) -> Arc<Server> {
        let address: SocketAddr = address.parse().unwrap();
        let snapshot = self.snapshot.lock().unwrap().clone();
        let workload = snapshot.workload_at(address.ip()).unwrap();
        let hbone = workload.capture.speaks_hbone();
        let leaf = hbone.then(|| self.authority.leaf(&workload.identity).unwrap());
        let (server, real) = Server::start(name, leaf).await;
        let dialled = if hbone {
            SocketAddr::new(address.ip(), 15008)
        } else {
            address
        };
        self.network.addresses.lock().unwrap().insert(dialled, real);
        server
    }

    /// A server at an address outside the mesh.
    pub(super) async fn outside(&self, name: &str, address: &str) -> Arc<Server> {
        let (server, real) = Server::start(name, None).await;
        self.network
            .addresses
            .lock()
            .unwrap()
            .insert(address.parse().unwrap(), real);
        server
    }

    /// A stream of the client `shop/<account>` to an authority.
    pub(super) async fn stream(&self, account: &str, authority: &str) -> Result<StreamIo, Refusal> {
        self.traced(account, authority, None).await
    }

    /// As [`World::stream`], in this trace.
    pub(super) async fn traced(
        &self,
        account: &str,
        authority: &str,
        traceparent: Option<Traceparent>,
    ) -> Result<StreamIo, Refusal> {
        let target = Target {
            source: account.into(),
            source_address: "127.0.0.1".parse().unwrap(),
            leaf: self.authority.leaf(&identity(account)).unwrap(),
            dialer: Dialer::own(),
            expected: identity("waypoint"),
            workload: "waypoint".into(),
            address: self.address,
        };
        let connect = Connect {
            authority: authority.parse().unwrap(),
            client: "127.0.0.1:40000".parse().unwrap(),
            host: None,
            baggage: None,
            traceparent,
        };
        let stream = tokio::time::timeout(SOON, self.pool.open(&target, &connect))
            .await
            .unwrap()?;
        Ok(stream.into_io())
    }

    /// Who was reached so far, by mesh address.
    pub(super) fn reached(&self) -> Vec<SocketAddr> {
        self.network.reached.lock().unwrap().clone()
    }
}

/// A name server that knows `api.example` alone: at 192.0.2.9.
fn names() -> Resolver {
    let ask: Ask = Arc::new(|host| {
        Box::pin(async move {
            let addresses = vec!["192.0.2.9".parse().unwrap()];
            let life = Duration::from_secs(60);
            match &*host {
                "api.example" => Ok(Found { addresses, life }),
                _ => Err(format!("{host} does not exist")),
            }
        })
    });
    Resolver::new(ask, Resolver::MOST)
}

pub(super) fn key() -> WaypointKey {
    WaypointKey {
        namespace: "shop".into(),
        name: "waypoint".into(),
    }
}

pub(super) fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

pub(super) fn service_key(name: &str) -> ServiceKey {
    ServiceKey {
        namespace: "shop".into(),
        name: name.into(),
    }
}

/// The mesh every test starts with.
fn mesh() -> Snapshot {
    let mut snapshot = Snapshot::empty(Arc::new(MeshSettings {
        pod_ranges: vec!["10.1.0.0/16".parse().unwrap()],
        service_ranges: vec!["10.2.0.0/16".parse().unwrap()],
        ..MeshSettings::default()
    }));
    snapshot.complete = true;
    snapshot.waypoints.insert(
        key(),
        Arc::new(WaypointObject {
            key: key(),
            identity: identity("waypoint"),
            takes: WaypointFor::Service,
            endpoints: Vec::new(),
        }),
    );
    snapshot.put_workload(Arc::new(Workload {
        capture: Capture::Native,
        serves: Some(key()),
        ..pod("waypoint-0", "waypoint", "10.1.0.250")
    }));
    let web = [pod("a", "a", "10.1.0.1"), pod("b", "b", "10.1.0.2")];
    put_service(&mut snapshot, "web", "10.2.0.1", &web);
    snapshot
}

/// A captured, ready pod with a policy set that binds it to the waypoint and holds nothing else.
pub(super) fn pod(name: &str, account: &str, address: &str) -> Workload {
    Workload {
        uid: format!("shop.{name}").into(),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        identity: identity(account),
        addresses: vec![address.parse().unwrap()],
        labels: Labels::default(),
        owner: name.into(),
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: set(Vec::new()),
    }
}

/// A Service bound to the waypoint, port 80 in front of 8080 of these pods; the pods too.
pub(super) fn put_service(snapshot: &mut Snapshot, name: &str, address: &str, pods: &[Workload]) {
    for pod in pods {
        snapshot.put_workload(Arc::new(Workload {
            services: vec![service_key(name)],
            ..pod.clone()
        }));
    }
    let endpoint = |pod: &Workload| Endpoint {
        workload: Some(pod.uid.clone()),
        address: pod.addresses[0],
        node: Some(pod.node.clone()),
        ports: [(80, 8080)].into(),
        ready: true,
        leaving: false,
    };
    snapshot.put_service(Arc::new(Service {
        key: service_key(name),
        addresses: vec![address.parse().unwrap()],
        ports: vec![ServicePort {
            name: "".into(),
            port: 80,
            app_protocol: None,
        }],
        endpoints: pods.iter().map(endpoint).collect(),
        publish_not_ready: false,
        tiers: Arc::default(),
        waypoint: Some(key()),
        policies: set(Vec::new()),
        routes: Arc::new([]),
    }));
}

/// Changes a workload.
pub(super) fn edit_pod(snapshot: &mut Snapshot, name: &str, edit: impl FnOnce(&mut Workload)) {
    let mut pod = snapshot
        .workloads
        .get(&*format!("shop.{name}"))
        .unwrap()
        .as_ref()
        .clone();
    edit(&mut pod);
    snapshot.put_workload(Arc::new(pod));
}

/// Changes a Service.
pub(super) fn edit_service(snapshot: &mut Snapshot, name: &str, edit: impl FnOnce(&mut Service)) {
    let mut service = snapshot.services.get(&service_key(name)).unwrap().as_ref().clone();
    edit(&mut service);
    snapshot.put_service(Arc::new(service));
}

/// These policies on `web` and every pod behind it.
pub(super) fn enforce(snapshot: &mut Snapshot, policies: Vec<Policy>) {
    edit_service(snapshot, "web", |service| service.policies = set(policies.clone()));
    for name in ["a", "b"] {
        edit_pod(snapshot, name, |pod| pod.policies = set(policies.clone()));
    }
}

pub(super) fn set(policies: Vec<Policy>) -> Arc<PolicySet> {
    Arc::new(PolicySet {
        policies: policies
            .into_iter()
            .map(|policy| AppliedPolicy {
                policy: Arc::new(policy),
                ports: None,
            })
            .collect(),
        waypoints: vec![BoundWaypoint {
            key: key(),
            identity: identity("waypoint"),
            ports: None,
        }],
        ..PolicySet::default()
    })
}

/// A policy of one rule: from these accounts (none: anybody), to this path prefix (none: anything).
pub(super) fn policy(name: &str, action: Action, accounts: &[&str], prefix: Option<&str>) -> Policy {
    let from = (!accounts.is_empty()).then(|| Source {
        principals: accounts
            .iter()
            .map(|account| StringMatch::Exact(identity(account).principal().into()))
            .collect(),
        ..Source::default()
    });
    let to = prefix.map(|prefix| Operation {
        paths: vec![StringMatch::Prefix(prefix.into())],
        ..Operation::default()
    });
    Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: name.into(),
        },
        action,
        rules: vec![Rule {
            from: from.into_iter().collect(),
            to: to.into_iter().collect(),
            ..Rule::default()
        }],
        dry_run: false,
        broken: None,
    }
}

/// A route of `web`: for this path prefix, to these Services by weight.
pub(super) fn route(prefix: &str, backends: &[(&str, u32)], timeout: Option<Duration>) -> Arc<HttpRoute> {
    Arc::new(HttpRoute {
        object: ObjectRef {
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name: "web".into(),
        },
        parent_port: None,
        consumer: false,
        rules: vec![RouteRule {
            name: "".into(),
            matches: vec![RouteMatch {
                path: PathMatch::Prefix(prefix.trim_end_matches('/').into()),
                headers: Vec::new(),
                query: Vec::new(),
                method: None,
                broken: false,
            }],
            backends: backends
                .iter()
                .map(|(name, weight)| Backend {
                    service: service_key(name),
                    port: 80,
                    weight: *weight,
                    broken: None,
                })
                .collect(),
            request_timeout: timeout,
            broken: None,
        }],
    })
}
