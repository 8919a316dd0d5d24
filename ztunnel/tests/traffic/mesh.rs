//! A mesh in one process: pods are addresses on the loopback interface of a network namespace made for the test.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use act::{
    certs::{Certificates, Hold, Leaf, local::LocalAuthority},
    config::Reader,
    hbone::{Budget, Connect, Pool, PoolOptions, Target},
    net::{Acceptor, Dialer, Listen, Netns, listen},
};
use decide::{
    model::{
        Action, AppliedPolicy, Capture, Endpoint, Fence, Identity, Labels, MeshSettings, ObjectRef, Phase, Policy,
        PolicySet, Rule, Service, ServiceKey, ServicePort, Waypoint, WaypointEndpoint, WaypointFor, WaypointKey,
        Workload, ports,
    },
    snapshot::Snapshot,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::{JoinHandle, LocalSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use ztunnel::traffic::{Handshakes, Neighbour, Pod, Traffic, TrafficOptions};

/// Generous bound of whatever is waited for.
pub(crate) const LONG: Duration = Duration::from_secs(30);
const INSIDE: &str = "WEFT_TEST_INSIDE";

/// Addresses that pods may have. The first makes connections: whoever is dialled sees it.
pub(crate) const CLIENT: &str = "10.77.0.1";
pub(crate) const SERVER: &str = "10.77.0.2";
pub(crate) const OTHER: &str = "10.77.0.3";
pub(crate) const FOURTH: &str = "10.77.0.4";
pub(crate) const OUTSIDE: &str = "10.99.0.1";

/// Runs a test in a network namespace of its own: again, as a process of its own.
pub(crate) fn inside<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        interface();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return LocalSet::new().block_on(&runtime.expect("a runtime"), body());
    }
    let user: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let status = Command::new("unshare")
        .args(user)
        .args(["--net", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) is needed");
    assert!(status.success(), "{test} failed in its network namespace");
}

fn interface() {
    let ip = |arguments: &str| {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.expect("ip (iproute2) is needed").success(), "ip {arguments}");
    };
    ip("link set lo up");
    for address in [CLIENT, SERVER, OTHER, FOURTH, OUTSIDE] {
        ip(&format!("addr add {address}/32 dev lo"));
        if address != CLIENT {
            ip(&format!(
                "route replace local {address} dev lo table local src {CLIENT}"
            ));
        }
    }
}

/// What is configured, and who signs.
pub(crate) struct Mesh {
    snapshot: Snapshot,
    publisher: Box<dyn Fn(Snapshot)>,
    reader: Reader,
    certificates: Certificates,
    /// Who signs.
    pub(crate) authority: Arc<LocalAuthority>,
    holds: Vec<Hold>,
    served: Served,
}

/// Pods that this process serves, by UID.
type Served = Arc<Mutex<HashMap<String, Traffic>>>;

impl Mesh {
    /// Nothing configured yet.
    pub(crate) fn new() -> Self {
        let settings = MeshSettings {
            pod_ranges: vec!["10.77.0.0/16".parse().expect("a network")],
            service_ranges: vec!["10.88.0.0/16".parse().expect("a network")],
            ..MeshSettings::default()
        };
        let mut snapshot = Snapshot::empty(Arc::new(settings));
        snapshot.complete = true;
        let (publisher, reader) = Reader::new(snapshot.clone());
        let authority = Arc::new(LocalAuthority::new().expect("an authority"));
        Self {
            snapshot,
            publisher: Box::new(move |snapshot| publisher.publish(snapshot)),
            reader,
            certificates: Certificates::new(authority.clone()),
            authority,
            holds: Vec::new(),
            served: Served::default(),
        }
    }

    /// Changes what is configured.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot);
        self.snapshot.version += 1;
        (self.publisher)(self.snapshot.clone());
    }

    /// Captures a pod that is configured, or is to be.
    pub(crate) fn capture(&mut self, name: &str, address: &str, options: TrafficOptions) -> Captured {
        self.holds.push(self.certificates.hold(&pod(name, address).identity));
        let origins: Origins = Arc::default();
        let known = origins.clone();
        let served = self.served.clone();
        let traffic = Traffic::new(Pod {
            uid: name.into(),
            reader: self.reader.clone(),
            certificates: self.certificates.clone(),
            dialer: Dialer::own(),
            origin: Arc::new(move |socket| {
                let from = socket.peer_addr()?;
                let known = known.lock().expect("whole");
                known.get(&from).copied().map_or_else(|| socket.local_addr(), Ok)
            }),
            budget: Budget::default(),
            handshakes: Handshakes::new(options.unauthenticated),
            neighbours: Arc::new(move |uid| {
                let served = served.lock().expect("whole");
                Some(Neighbour {
                    traffic: served.get(uid)?.clone(),
                    place: None,
                    ended: CancellationToken::new(),
                })
            }),
            options: Arc::new(options),
        });
        self.served
            .lock()
            .expect("whole")
            .insert(name.to_owned(), traffic.clone());
        let ip = ip(address);
        Captured {
            traffic,
            ip,
            origins,
            listeners: Mutex::default(),
        }
    }

    /// As [`Mesh::capture`], listening to everything.
    pub(crate) fn capture_and_listen(&mut self, name: &str, address: &str) -> Captured {
        let captured = self.capture(name, address, TrafficOptions::default());
        captured.listen(ports::HBONE);
        captured.listen(ports::OUTBOUND);
        captured.listen(ports::INBOUND_PLAINTEXT);
        captured
    }

    /// A pod is about to be served by somebody else.
    pub(crate) fn leave(&self, name: &str) {
        self.served.lock().expect("whole").remove(name);
    }

    /// Wants an identity no longer.
    pub(crate) fn let_go(&mut self, identity: &Identity) {
        self.holds.retain(|hold| hold.identity != *identity);
    }

    /// A leaf of this identity, for who is no captured pod.
    pub(crate) async fn leaf(&mut self, identity: &Identity) -> Arc<Leaf> {
        self.holds.push(self.certificates.hold(identity));
        self.certificates.leaf(identity).await.expect("a leaf")
    }

    /// A way to ask the pod at `address` for streams, with the identity of `name` and without a ztunnel.
    pub(crate) async fn stranger(&mut self, name: &str, expected: &Workload) -> (Pool, Target) {
        let identity = pod(name, CLIENT).identity;
        let leaf = self.leaf(&identity).await;
        let target = Target {
            source: name.into(),
            source_address: ip(CLIENT),
            leaf,
            dialer: Dialer::own(),
            expected: expected.identity.clone(),
            workload: expected.uid.clone(),
            address: (expected.addresses[0], ports::HBONE).into(),
        };
        (Pool::new(PoolOptions::default()), target)
    }
}

type Origins = Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>;

/// A captured pod.
pub(crate) struct Captured {
    pub(crate) traffic: Traffic,
    ip: IpAddr,
    origins: Origins,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

impl Captured {
    /// Serves one of the mesh's ports in this pod.
    pub(crate) fn listen(&self, port: u16) {
        let address = Listen {
            address: (self.ip, port).into(),
            transparent: false,
            shared: false,
        };
        let listener = listen(&Netns::own(), address).expect("listens");
        let mut listener = Acceptor::new(listener).expect("in a runtime");
        let traffic = self.traffic.clone();
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let traffic = traffic.clone();
                tokio::spawn(async move {
                    match port {
                        ports::HBONE => traffic.hbone(socket).await,
                        ports::OUTBOUND => traffic.outbound(socket).await,
                        _ => traffic.plaintext(socket).await,
                    }
                });
            }
        });
        self.listeners.lock().expect("whole").push(listening);
    }

    /// A connection of the pod's application, redirected.
    pub(crate) async fn connect(&self, to: impl AsRef<str>) -> TcpStream {
        let to = to.as_ref().parse().expect("an address");
        self.redirected(self.ip, (self.ip, ports::OUTBOUND).into(), to).await
    }

    /// As [`Captured::connect`], from another address of the application's choice.
    pub(crate) async fn connect_as(&self, from: &str, to: &str) -> TcpStream {
        let to = to.parse().expect("an address");
        self.redirected(ip(from), (self.ip, ports::OUTBOUND).into(), to).await
    }

    /// Stops listening.
    pub(crate) async fn close(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock().expect("whole"));
        for listener in listeners {
            listener.abort();
            let _ = listener.await;
        }
    }

    /// A plaintext connection towards the pod, redirected.
    pub(crate) async fn plaintext_from(&self, client: &str, port: u16) -> TcpStream {
        let listener = (self.ip, ports::INBOUND_PLAINTEXT).into();
        self.redirected(ip(client), listener, (self.ip, port).into()).await
    }

    async fn redirected(&self, from: IpAddr, listener: SocketAddr, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("binds");
        let local = socket.local_addr().expect("bound");
        self.origins.lock().expect("whole").insert(local, to);
        let connected = timeout(LONG, socket.connect(listener)).await.expect("in time");
        connected.expect("ztunnel accepts")
    }
}

pub(crate) fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// A captured, ready pod.
pub(crate) fn pod(name: &str, address: &str) -> Workload {
    Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        identity: format!("spiffe://cluster.local/ns/shop/sa/{name}")
            .parse()
            .expect("an identity"),
        addresses: vec![ip(address)],
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
        policies: Arc::default(),
    }
}

/// A Service `echo` on port 80 before port 8080 of these pods.
pub(crate) fn echo_service(address: &str, pods: &[&Workload]) -> Service {
    Service {
        key: ServiceKey {
            namespace: "shop".into(),
            name: "echo".into(),
        },
        addresses: vec![ip(address)],
        ports: vec![ServicePort {
            name: "tcp".into(),
            port: 80,
            app_protocol: None,
        }],
        endpoints: pods
            .iter()
            .map(|pod| Endpoint {
                workload: Some(pod.uid.clone()),
                address: pod.addresses[0],
                node: Some(pod.node.clone()),
                ports: [(80, 8080)].into(),
                ready: true,
                leaving: false,
            })
            .collect(),
        publish_not_ready: false,
        tiers: Arc::default(),
        waypoint: None,
        policies: Arc::default(),
        routes: Arc::new([]),
    }
}

/// A waypoint for Services, served by these pods.
pub(crate) fn waypoint(name: &str, pods: &[&Workload]) -> Waypoint {
    Waypoint {
        key: WaypointKey {
            namespace: "shop".into(),
            name: name.into(),
        },
        identity: pod(name, OTHER).identity,
        takes: WaypointFor::Service,
        endpoints: pods
            .iter()
            .map(|pod| WaypointEndpoint {
                workload: pod.uid.clone(),
                address: (pod.addresses[0], ports::HBONE).into(),
                node: pod.node.clone(),
            })
            .collect(),
    }
}

/// Asks for this authority in the name of the client.
pub(crate) fn connect_to(authority: &str) -> Connect {
    Connect {
        authority: authority.parse().expect("an address"),
        client: "10.77.0.1:1".parse().expect("an address"),
        host: None,
        baggage: None,
        traceparent: None,
    }
}

/// Policies that deny everything.
pub(crate) fn deny_everything() -> Arc<PolicySet> {
    Arc::new(PolicySet {
        policies: vec![policy("nobody", Action::Deny, vec![Rule::default()])],
        ..PolicySet::default()
    })
}

/// A policy of these rules, on every port.
pub(crate) fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AppliedPolicy {
    let policy = Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: name.into(),
        },
        action,
        rules,
        dry_run: false,
        broken: None,
    };
    AppliedPolicy {
        policy: Arc::new(policy),
        ports: None,
    }
}
