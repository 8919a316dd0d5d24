//! Which endpoints of a Service are near, seen from a node, a zone or a region: as the cluster's own hints say, else as the
//! Service's `trafficDistribution` asks.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use decide::model::{Endpoint, Locality, Tiers};

use crate::config::objects::{Pod, ServiceSpec, SliceEndpoint, SliceHint};

/// Where an endpoint is, and whose connections it is meant for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Near {
    pub(super) node: Option<Arc<str>>,
    pub(super) zone: Option<Arc<str>>,
    pub(super) region: Option<Arc<str>>,
    pub(super) for_nodes: BTreeSet<Arc<str>>,
    pub(super) for_zones: BTreeSet<Arc<str>>,
}

/// How near endpoints are to be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    Anywhere,
    SameZone,
    /// Of the node, else of the zone.
    SameNode,
}

impl Near {
    /// What a slice tells of an endpoint.
    pub(super) fn told(endpoint: &SliceEndpoint, node: Option<Arc<str>>) -> Self {
        let names = |hints: &[SliceHint]| hints.iter().map(|hint| hint.name.clone()).collect();
        let hints = endpoint.hints.as_deref();
        Self {
            node,
            zone: endpoint.zone.clone(),
            region: None,
            for_nodes: hints.map(|it| names(&it.for_nodes)).unwrap_or_default(),
            for_zones: hints.map(|it| names(&it.for_zones)).unwrap_or_default(),
        }
    }

    /// What a pod tells of itself.
    pub(super) fn of_pod(pod: &Pod, node: Option<Arc<str>>) -> Self {
        let Locality { zone, region } = Locality::of(&pod.metadata.labels);
        Self {
            node,
            zone,
            region,
            ..Self::default()
        }
    }

    /// Where nothing was told of the endpoint itself, its node tells.
    pub(super) fn complete(&mut self, node: Option<&Locality>) {
        let Some(node) = node else { return };
        self.zone = self.zone.take().or_else(|| node.zone.clone());
        self.region = self.region.take().or_else(|| node.region.clone());
    }

    /// Two that tell of one address: the same comes out in whatever order they are read.
    pub(super) fn merge(&mut self, other: Self) {
        self.node = self.node.take().into_iter().chain(other.node).min();
        self.zone = self.zone.take().into_iter().chain(other.zone).min();
        self.region = self.region.take().into_iter().chain(other.region).min();
        self.for_nodes.extend(other.for_nodes);
        self.for_zones.extend(other.for_zones);
    }
}

/// What decides which endpoints of a Service are near. Hints count only where every ready endpoint has some, as for
/// kube-proxy: else they are about to change.
#[derive(Debug)]
pub(super) struct Preference {
    wanted: Wanted,
    only_node: bool,
    node_hints: bool,
    zone_hints: bool,
}

impl Preference {
    /// `None`: every endpoint is as near as any other, wherever it is.
    pub(super) fn of(spec: &ServiceSpec, endpoints: &[Endpoint], near: &[Near]) -> Option<Self> {
        let wanted = match &*spec.traffic_distribution {
            "PreferClose" | "PreferSameZone" => Wanted::SameZone,
            "PreferSameNode" => Wanted::SameNode,
            _ => Wanted::Anywhere,
        };
        let ready = || endpoints.iter().zip(near).filter(|(endpoint, _)| endpoint.ready);
        let preference = Self {
            wanted,
            only_node: &*spec.internal_traffic_policy == "Local",
            node_hints: ready().all(|(_, near)| !near.for_nodes.is_empty()),
            zone_hints: ready().all(|(_, near)| !near.for_zones.is_empty()),
        };
        let Self {
            only_node,
            node_hints,
            zone_hints,
            ..
        } = preference;
        let counts = only_node || node_hints || zone_hints || wanted != Wanted::Anywhere;
        counts.then_some(preference)
    }

    /// The tiers of a Service with such endpoints.
    pub(super) fn tiers(&self, near: &[Near]) -> Tiers {
        let (mut nodes, mut zones, mut regions) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (index, near) in (0..).zip(near) {
            if self.only_node || (self.wanted == Wanted::SameNode && !self.node_hints) {
                add(&mut nodes, near.node.iter(), index);
            } else if self.node_hints {
                add(&mut nodes, near.for_nodes.iter(), index);
            }
            if self.only_node {
                continue;
            }
            if self.zone_hints {
                add(&mut zones, near.for_zones.iter(), index);
            } else if self.wanted != Wanted::Anywhere {
                add(&mut zones, near.zone.iter(), index);
            }
            add(&mut regions, near.region.iter(), index);
        }
        Tiers {
            nodes: frozen(nodes),
            zones: frozen(zones),
            regions: frozen(regions),
            only_node: self.only_node,
        }
    }
}

fn frozen(tiers: HashMap<Arc<str>, Vec<u32>>) -> HashMap<Arc<str>, Box<[u32]>> {
    tiers.into_iter().map(|(name, all)| (name, all.into())).collect()
}

fn add<'a>(tiers: &mut HashMap<Arc<str>, Vec<u32>>, names: impl Iterator<Item = &'a Arc<str>>, index: u32) {
    for name in names.filter(|name| !name.is_empty()) {
        tiers.entry(name.clone()).or_default().push(index);
    }
}
