//! Outbound connections that annotations of a pod or its namespace exclude from the mesh.
//!
//! Only what lies outside the mesh can be: where the pod and Service ranges are not known nothing is, for nobody could
//! tell. An annotation with anything wrong in it excludes nothing.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use decide::model::{Exclusions, MeshSettings};
use ipnet::IpNet;

use super::written::{below, shown};
use crate::config::objects::{FieldError, Metadata};

const NETWORKS: &str = "weft.dev/exclude-outbound-cidrs";
const PORTS: &str = "weft.dev/exclude-outbound-ports";
/// Most things one annotation may exclude. No flag: the agent, the ztunnel and `weft check` read the same annotation,
/// and must not differ in what it means. A longer one is a problem that names the bound.
const MOST: usize = 32;
const KEPT: &str = "nothing is excluded by it";

/// What a pod excludes: what its own annotations and those of its namespace say, together.
pub(super) fn exclusions(settings: &MeshSettings, namespace: Option<&Metadata>, pod: &Metadata) -> Exclusions {
    let (mut all, mut ports) = (Vec::new(), BTreeSet::new());
    for metadata in namespace.into_iter().chain([pod]) {
        all.extend(networks(settings, metadata).unwrap_or_default());
        ports.extend(read_ports(settings, metadata).unwrap_or_default());
    }
    if all.is_empty() && ports.is_empty() {
        return Exclusions::default();
    }
    let ranges: Vec<IpNet> = ranges(settings).copied().collect();
    Exclusions {
        networks: IpNet::aggregate(&all),
        ports: ports.into_iter().collect(),
        kept: IpNet::aggregate(&ranges),
    }
}

/// What of it cannot be honoured.
pub(super) fn exclusion_problems(settings: &MeshSettings, metadata: &Metadata) -> Vec<FieldError> {
    let networks = networks(settings, metadata).err();
    networks
        .into_iter()
        .chain(read_ports(settings, metadata).err())
        .collect()
}

fn ranges(settings: &MeshSettings) -> impl Iterator<Item = &IpNet> {
    settings.pod_ranges.iter().chain(&settings.service_ranges)
}

fn networks(settings: &MeshSettings, metadata: &Metadata) -> Result<BTreeSet<IpNet>, FieldError> {
    let all = read::<IpNet>(
        settings,
        metadata,
        NETWORKS,
        "Write networks such as 192.0.2.0/24, with commas.",
    )?;
    let own = |network: &&IpNet| ranges(settings).any(|range| range.contains(*network));
    match all.iter().find(own) {
        None => Ok(all.iter().map(IpNet::trunc).collect()),
        Some(own) => Err(FieldError::new(
            below("metadata.annotations", NETWORKS),
            format!("names {own}, which lies in the mesh's own pod or Service ranges; {KEPT}."),
            "Name networks outside the mesh.",
        )),
    }
}

fn read_ports(settings: &MeshSettings, metadata: &Metadata) -> Result<BTreeSet<u16>, FieldError> {
    let remedy = "Write ports from 1 to 65535, with commas.";
    let all = read::<u16>(settings, metadata, PORTS, remedy)?;
    if all.contains(&0) {
        return Err(unreadable(metadata, PORTS, remedy));
    }
    Ok(all)
}

fn read<T: FromStr + Ord>(
    settings: &MeshSettings,
    metadata: &Metadata,
    key: &str,
    remedy: &str,
) -> Result<BTreeSet<T>, FieldError> {
    let Some(written) = metadata.annotations.get(key) else {
        return Ok(BTreeSet::new());
    };
    let at = |what: String, remedy: &str| FieldError::new(below("metadata.annotations", key), what, remedy);
    let all: Result<BTreeSet<T>, T::Err> = written.split(',').map(|one| one.trim().parse()).collect();
    let all = all.map_err(|_| unreadable(metadata, key, remedy))?;
    if all.len() > MOST {
        return Err(at(
            format!("names more than {MOST}; {KEPT}."),
            "Name fewer, or wider ones.",
        ));
    }
    if ranges(settings).next().is_none() {
        return Err(at(
            format!("cannot be told from the mesh's own addresses, which nobody knows; {KEPT}."),
            "Give podCidrs and serviceCidrs in the MeshConfig.",
        ));
    }
    Ok(all)
}

fn unreadable(metadata: &Metadata, key: &str, remedy: &str) -> FieldError {
    let none = Arc::from("");
    let written = metadata.annotations.get(key).unwrap_or(&none);
    let what = format!("{} cannot be read; {KEPT}.", shown(written));
    FieldError::new(below("metadata.annotations", key), what, remedy)
}
