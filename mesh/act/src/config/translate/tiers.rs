//! Which endpoints of a Service are near, seen from a node or a zone: as the cluster's own hints say, else as the
//! Service's `trafficDistribution` asks.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use decide::model::{Endpoint, Tiers};

use crate::config::objects::{ServiceSpec, SliceEndpoint, SliceHint};

/// Where an endpoint is, and whose connections it is meant for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Near {
    pub(super) node: Option<Arc<str>>,
    pub(super) zone: Option<Arc<str>>,
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
        let hints = endpoint.hints.clone().unwrap_or_default();
        Self {
            node,
            zone: endpoint.zone.clone(),
            for_nodes: names(&hints.for_nodes),
            for_zones: names(&hints.for_zones),
        }
    }

    /// Two that tell of one address: the same comes out in whatever order they are read.
    pub(super) fn merge(&mut self, other: Self) {
        self.node = self.node.take().into_iter().chain(other.node).min();
        self.zone = self.zone.take().into_iter().chain(other.zone).min();
        self.for_nodes.extend(other.for_nodes);
        self.for_zones.extend(other.for_zones);
    }
}

/// The tiers of a Service. Hints count only where every ready endpoint has some, as for kube-proxy: else they are
/// about to change.
pub(super) fn tiers(spec: &ServiceSpec, endpoints: &[Endpoint], near: &[Near]) -> Tiers {
    let only_node = &*spec.internal_traffic_policy == "Local";
    let wanted = match &*spec.traffic_distribution {
        "PreferClose" | "PreferSameZone" => Wanted::SameZone,
        "PreferSameNode" => Wanted::SameNode,
        _ => Wanted::Anywhere,
    };
    let ready = || endpoints.iter().zip(near).filter(|(endpoint, _)| endpoint.ready);
    let zone_hints = ready().all(|(_, near)| !near.for_zones.is_empty());
    let node_hints = ready().all(|(_, near)| !near.for_nodes.is_empty());
    if !only_node && wanted == Wanted::Anywhere && !(zone_hints || node_hints) {
        return Tiers::default();
    }
    let (mut nodes, mut zones) = (HashMap::new(), HashMap::new());
    for (index, near) in (0..).zip(near) {
        if only_node || (wanted == Wanted::SameNode && !node_hints) {
            add(&mut nodes, near.node.iter(), index);
        } else if node_hints {
            add(&mut nodes, near.for_nodes.iter(), index);
        }
        if zone_hints {
            add(&mut zones, near.for_zones.iter(), index);
        } else if wanted != Wanted::Anywhere {
            add(&mut zones, near.zone.iter(), index);
        }
    }
    Tiers {
        nodes: nodes.into_iter().map(|(name, all)| (name, all.into())).collect(),
        zones: zones.into_iter().map(|(name, all)| (name, all.into())).collect(),
        only_node,
    }
}

fn add<'a>(tiers: &mut HashMap<Arc<str>, Vec<u32>>, names: impl Iterator<Item = &'a Arc<str>>, index: u32) {
    for name in names.filter(|name| !name.is_empty()) {
        tiers.entry(name.clone()).or_default().push(index);
    }
}
