//! What a snapshot says of some namespaces, as text that can be compared.

use std::collections::BTreeMap;

use decide::{model::Problem, snapshot::Snapshot};
use serde::Serialize;

/// Everything said of the namespaces whose name begins with `prefix`, without versions and places.
pub(super) fn told(snapshot: &Snapshot, prefix: &str) -> BTreeMap<String, String> {
    let ours = |name: &str| name.starts_with(prefix);
    let mut told = BTreeMap::new();
    for workload in snapshot.workloads.values().filter(|it| ours(&it.namespace)) {
        told.insert(
            format!("workload {}/{}", workload.namespace, workload.name),
            shown(workload),
        );
    }
    for service in snapshot.services.values().filter(|it| ours(&it.key.namespace)) {
        told.insert(
            format!("service {}/{}", service.key.namespace, service.key.name),
            shown(service),
        );
    }
    for waypoint in snapshot.waypoints.values().filter(|it| ours(&it.key.namespace)) {
        told.insert(
            format!("waypoint {}/{}", waypoint.key.namespace, waypoint.key.name),
            shown(waypoint),
        );
    }
    for (address, uid) in snapshot.workload_addresses.iter() {
        if snapshot.workload(uid).is_some_and(|it| ours(&it.namespace)) {
            told.insert(format!("address {address}"), uid.to_string());
        }
    }
    for (address, key) in snapshot
        .service_addresses
        .iter()
        .filter(|(_, key)| ours(&key.namespace))
    {
        told.insert(format!("virtual address {address}"), shown(key));
    }
    for external in snapshot.external.values().filter(|it| ours(&it.key.namespace)) {
        let (namespace, name) = (&external.key.namespace, &external.key.name);
        told.insert(format!("external service {namespace}/{name}"), shown(external));
    }
    for (claim, key) in snapshot.external.claims().filter(|(_, key)| ours(&key.namespace)) {
        told.insert(format!("external claim {claim}"), shown(&key));
    }
    for (at, key) in snapshot
        .endpoints_outside
        .iter()
        .filter(|(_, key)| ours(&key.namespace))
    {
        told.insert(format!("endpoint outside {at}"), shown(&key));
    }
    for (object, problems) in snapshot.problems.iter() {
        if ours(&object.namespace) || ours(&object.name) {
            let placeless = problems.iter().map(|problem| Problem {
                place: None,
                ..problem.clone()
            });
            told.insert(format!("problems {object}"), shown(&placeless.collect::<Vec<_>>()));
        }
    }
    told
}

/// The first differences, one a line: what the server's snapshot says, what the directory's says.
pub(super) fn differences(server: &BTreeMap<String, String>, directory: &BTreeMap<String, String>) -> Vec<String> {
    let names = server.keys().chain(directory.keys());
    let mut names: Vec<&String> = names.filter(|name| server.get(*name) != directory.get(*name)).collect();
    names.sort();
    names.dedup();
    let nothing = "nothing".to_owned();
    let of = |told: &BTreeMap<String, String>, name: &String| told.get(name).unwrap_or(&nothing).clone();
    let lines = names.into_iter().map(|name| {
        format!(
            "{name}\n    API server: {}\n    directory:  {}",
            of(server, name),
            of(directory, name)
        )
    });
    lines.collect()
}

fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("cannot be shown: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_whichever_side_it_is_on() {
        let map = |entries: &[(&str, &str)]| {
            let entries = entries
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            entries.collect::<BTreeMap<_, _>>()
        };
        let (one, other) = (
            map(&[("a", "1"), ("b", "2"), ("c", "3")]),
            map(&[("a", "1"), ("b", "x"), ("d", "4")]),
        );
        assert!(differences(&one, &one).is_empty());
        let found = differences(&one, &other);
        let names: Vec<&str> = found.iter().map(|line| &line[..1]).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert!(found[1].contains("directory:  nothing"), "{}", found[1]);
    }
}
