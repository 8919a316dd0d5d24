//! A real ztunnel, its CA beside it.

use std::{path::Path, sync::Arc, time::Duration};

use act::{
    certs::{Certificates, local::LocalAuthority},
    process::{Readiness, Workers},
};
use tokio_util::sync::CancellationToken;
use ztunnel::{
    handover::{self, Elders, Place},
    node::{NodePods, Settings},
    traffic::TrafficOptions,
    zds,
};

use crate::{
    node::{Node, ZDS},
    world::{PodNet, SOON, sh},
};

/// More connections than any test makes.
pub const MANY: usize = 1000;
/// Where the ztunnels of the node meet.
const MEETING: &str = "/run/ztunnels";

/// A ztunnel of the node under test.
pub struct Ztunnel {
    pub authority: Arc<LocalAuthority>,
    pub pods: NodePods,
    pub readiness: Readiness,
    pub stopping: CancellationToken,
    pub elders: Elders,
    pub settings: Settings,
    leaving: CancellationToken,
}

impl Ztunnel {
    pub fn start(node: &Node, drain: Duration, connections: usize) -> Self {
        Self::with(Arc::new(LocalAuthority::new().unwrap()), node, drain, connections)
    }

    pub fn with(authority: Arc<LocalAuthority>, node: &Node, drain: Duration, connections: usize) -> Self {
        let options = TrafficOptions {
            connections,
            ..TrafficOptions::default()
        };
        Self::of(authority, node, drain, options, (0, Elders::default()))
    }

    /// One that takes over from those that are there, and hands over to those that come.
    pub async fn join(authority: &Arc<LocalAuthority>, node: &Node) -> Self {
        let place = Place::take(Path::new(MEETING)).await.unwrap();
        let elders = Elders::greet(place.number, &place.elders).await;
        let who = (place.number, elders);
        let drain = Duration::from_secs(20);
        let ztunnel = Self::of(authority.clone(), node, drain, TrafficOptions::default(), who);
        tokio::spawn(handover::serve(place, ztunnel.pods.clone()));
        ztunnel
    }

    fn of(
        authority: Arc<LocalAuthority>,
        node: &Node,
        drain: Duration,
        traffic: TrafficOptions,
        (number, elders): (u64, Elders),
    ) -> Self {
        let readiness = Readiness::new();
        let (stopping, leaving) = (CancellationToken::new(), CancellationToken::new());
        let settings = Settings {
            node: "n1".into(),
            reader: node.reader.clone(),
            certificates: Certificates::new(authority.clone()),
            workers: Workers::start(2, "worker").unwrap(),
            traffic: Arc::new(traffic),
            drain,
            elders: elders.clone(),
            stopping: stopping.clone(),
            leaving: leaving.clone(),
        };
        let pods = NodePods::new(settings.clone(), number, readiness.gate("pods"));
        let (mut from_agent, phases) = (pods.clone(), pods.clone());
        tokio::spawn(async move { zds::connect(Path::new(ZDS), &mut from_agent).await });
        tokio::spawn(async move { match phases.watch_phases().await {} });
        Self {
            authority,
            pods,
            readiness,
            stopping,
            elders,
            settings,
            leaving,
        }
    }

    /// As at SIGTERM. Whether an elder goes on in its stead.
    pub async fn stop(&self) -> bool {
        self.stopping.cancel();
        let goes_on = self.elders.leave().await;
        if goes_on {
            self.leaving.cancel();
        }
        goes_on
    }

    pub fn state(&self, name: &str) -> Option<String> {
        let dump = self.pods.dump();
        let pod = dump.as_array()?.iter().find(|pod| pod["name"] == name)?.clone();
        let state = &pod["state"];
        Some(state.as_str().map_or_else(|| state.to_string(), str::to_owned))
    }

    pub async fn reaches(&self, name: &str, wanted: Option<&str>) {
        let start = tokio::time::Instant::now();
        loop {
            let state = self.state(name);
            if state.as_deref() == wanted {
                return;
            }
            assert!(start.elapsed() < SOON, "{name} is {state:?} and never {wanted:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn open(&self, name: &str) -> u64 {
        let dump = self.pods.dump();
        let pod = dump.as_array().unwrap().iter().find(|pod| pod["name"] == name);
        pod.map_or(0, |pod| pod["open"].as_u64().unwrap())
    }
}

/// How many of the mesh's listeners a pod has.
pub fn listeners(pod: &PodNet) -> usize {
    let told = sh(&format!("ip netns exec {} ss -Htln", pod.uid));
    told.lines()
        .filter(|line| ["15001", "15006", "15008"].iter().any(|port| line.contains(port)))
        .count()
}
