//! A node's agent, whose snapshot the test writes.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use act::{config::Reader, process::Readiness};
use decide::{
    model::{
        Action, AppliedPolicy, Capture, Datagrams, Exclusions, ExternalService, Fence, Identity, Labels, MeshSettings,
        MtlsMode, MtlsRules, ObjectRef, Operation, Phase, Policy, PolicySet, PortMatch, Rule, Workload,
    },
    snapshot::Snapshot,
};
use tokio::task::JoinHandle;
use ztunnel::{
    capture::{Agent, Host, Namespaces, ProbeOptions, Tally},
    zds::{Announcements, listen},
};

use crate::world::{NETNS, PodNet, until};

/// Where agent and ztunnel meet.
pub const ZDS: &str = "/run/zds.sock";

/// An agent whose snapshot the test writes.
pub struct Node {
    snapshot: Snapshot,
    pub reader: Reader,
    pub announcements: Announcements,
    publish: Box<dyn Fn(Snapshot)>,
    pub tally: Tally,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    pub fn start(path: &Path, pods: &[Workload]) -> Self {
        Self::of(path, Namespaces::Directory(NETNS.into()), pods, &[])
    }

    /// An agent that finds its pods in this way, and knows these namespaces of before.
    pub fn of(path: &Path, namespaces: Namespaces, pods: &[Workload], enabled: &[&str]) -> Self {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        snapshot.complete = true;
        for pod in pods {
            snapshot.put_workload(Arc::new(pod.clone()));
        }
        let (publisher, reader) = Reader::new(snapshot.clone());
        let announcements = Announcements::new();
        let host = Host::new(ProbeOptions::default());
        let agent = Agent::new("n1", namespaces, reader.clone(), announcements.clone(), host.clone());
        let agent = agent.after(enabled.iter().map(|name| (*name).into()).collect());
        Self {
            snapshot,
            reader,
            announcements: announcements.clone(),
            publish: Box::new(move |snapshot| publisher.publish(snapshot)),
            tally: agent.tally(),
            tasks: vec![
                tokio::spawn(listen(path, announcements).unwrap()),
                tokio::spawn(async move { match host.run().await {} }),
                tokio::spawn(async move { match agent.run(Readiness::new().gate("pods")).await {} }),
            ],
        }
    }

    pub fn put(&mut self, pod: Workload) {
        self.snapshot.version += 1;
        self.snapshot.put_workload(Arc::new(pod));
        (self.publish)(self.snapshot.clone());
    }

    pub fn put_external(&mut self, service: ExternalService) {
        self.snapshot.version += 1;
        for network in &service.networks {
            let owner = Some(service.key.clone());
            self.snapshot.external.own_network(service.scope(), *network, owner);
        }
        for host in &service.hosts {
            let owner = Some(service.key.clone());
            self.snapshot.external.own_host(service.scope(), host, owner);
        }
        self.snapshot.external.put(Arc::new(service));
        (self.publish)(self.snapshot.clone());
    }

    pub fn forget_external(&mut self, service: &ExternalService) {
        self.snapshot.version += 1;
        for host in &service.hosts {
            self.snapshot.external.own_host(service.scope(), host, None);
        }
        self.snapshot.external.remove(&service.key);
        (self.publish)(self.snapshot.clone());
    }

    /// Lets datagrams in whatever policies ask for.
    pub fn allow_datagrams(&mut self) {
        self.snapshot.version += 1;
        self.snapshot.mesh = Arc::new(MeshSettings {
            datagrams: Datagrams::Allow,
            ..MeshSettings::default()
        });
        (self.publish)(self.snapshot.clone());
    }

    /// What a pod's connections bypass the mesh for.
    pub fn exclude(&mut self, uid: &str, exclusions: Exclusions) {
        self.snapshot.version += 1;
        self.snapshot.exclusions.insert(uid.into(), Arc::new(exclusions));
        (self.publish)(self.snapshot.clone());
    }

    pub async fn state(&self, uid: &str, wanted: Option<&str>) {
        let told = || self.tally.dump()[uid]["state"].as_str().map(str::to_owned);
        until(&format!("{uid} is {wanted:?}, but {:?}", self.tally.dump()), || {
            told().as_deref() == wanted
        })
        .await;
    }

    pub async fn counted(&self, uid: &str, counter: &str, wanted: u64) {
        let told = || self.tally.dump()[uid][counter].as_u64();
        until(
            &format!("{counter} of {uid} is {wanted}: {}", self.tally.dump()),
            || told() == Some(wanted),
        )
        .await;
    }

    pub async fn die(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

pub fn workload(pod: &PodNet, capture: Capture, mode: MtlsMode) -> Workload {
    let policies = PolicySet {
        mtls: MtlsRules {
            default: (mode, None),
            ..MtlsRules::default()
        },
        ..PolicySet::default()
    };
    Workload {
        uid: pod.uid.into(),
        name: pod.uid.into(),
        namespace: "shop".into(),
        node: "n1".into(),
        identity: Identity::new("cluster.local", "shop", "cart").unwrap(),
        addresses: vec![pod.v4],
        labels: Labels::default(),
        owner: pod.uid.into(),
        ports: vec![],
        probed: Vec::new(),
        fence: Fence::default(),
        capture,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: vec![],
        policies: Arc::new(policies),
    }
}

pub fn permissive(pod: &PodNet) -> Workload {
    workload(pod, Capture::Captured, MtlsMode::Permissive)
}

pub fn strict(pod: &PodNet) -> Workload {
    workload(pod, Capture::Captured, MtlsMode::Strict)
}

/// A pod of which a policy names this port.
pub fn named(pod: &PodNet, port: u16) -> Workload {
    let policy = Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: "named".into(),
        },
        action: Action::Deny,
        rules: vec![Rule {
            to: vec![Operation {
                ports: vec![PortMatch::Is(port)],
                ..Operation::default()
            }],
            ..Rule::default()
        }],
        dry_run: false,
        broken: None,
    };
    let policies = PolicySet {
        policies: vec![AppliedPolicy {
            policy: Arc::new(policy),
            ports: None,
        }],
        ..PolicySet::default()
    };
    Workload {
        policies: Arc::new(policies),
        ..permissive(pod)
    }
}

pub fn outside(pod: &PodNet) -> Workload {
    workload(pod, Capture::Outside, MtlsMode::Permissive)
}

pub fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
