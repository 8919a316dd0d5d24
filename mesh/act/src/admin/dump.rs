//! What a process knows, as JSON. Sorted, so that two dumps can be compared. Never a key.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Admin;

/// `/config_dump`: process, readiness, mesh, workloads, services, external services, waypoints, policies, problems, certificates,
/// and what the process adds.
pub(super) fn everything(admin: &Admin) -> Value {
    let mut dump = process(admin);
    let mut put = |name: &str, value: Value| drop(dump.insert(name.to_owned(), value));
    if let Some(reader) = &admin.reader {
        let snapshot = reader.load();
        put("mesh", value(&snapshot.mesh));
        put(
            "workloads",
            sorted(
                snapshot
                    .workloads
                    .values()
                    .map(|it| ((it.namespace.clone(), it.name.clone()), value(it))),
            ),
        );
        put(
            "services",
            sorted(snapshot.services.values().map(|it| (it.key.clone(), value(it)))),
        );
        put(
            "externalServices",
            sorted(snapshot.external.values().map(|it| (it.key.clone(), value(it)))),
        );
        put(
            "waypoints",
            sorted(snapshot.waypoints.values().map(|it| (it.key.clone(), value(it)))),
        );
    }
    put("problems", problems(admin));
    put("certificates", certificates(admin));
    Value::Object(dump)
}

/// `/status`: `/config_dump` with counts where that has lists, so that asking every node costs little.
pub(super) fn summary(admin: &Admin) -> Value {
    let mut summary = process(admin);
    let mut put = |name: &str, count: usize| drop(summary.insert(name.to_owned(), json!(count)));
    if let Some(reader) = &admin.reader {
        let snapshot = reader.load();
        put("workloads", snapshot.workloads.len());
        put("services", snapshot.services.len());
        put("waypoints", snapshot.waypoints.len());
        put(
            "problems",
            snapshot.problems.values().map(|problems| problems.len()).sum(),
        );
    }
    let held = admin.certificates.as_ref().map(crate::certs::Certificates::list);
    put("certificates", held.unwrap_or_default().len());
    Value::Object(summary)
}

/// What both say of the process, and what the process adds.
fn process(admin: &Admin) -> Map<String, Value> {
    let waits = admin.readiness.waits_for();
    let mut dump = Map::new();
    let mut put = |name: &str, value: Value| drop(dump.insert(name.to_owned(), value));
    put("process", json!(admin.process.0));
    put("instance", json!(admin.process.1));
    put("version", json!(env!("CARGO_PKG_VERSION")));
    put("time", json!(seconds(SystemTime::now())));
    put("ready", json!(waits.is_empty()));
    put("waitsFor", json!(waits));
    put(
        "dropped_log_lines",
        json!(admin.logs.as_ref().map(crate::telemetry::Logs::dropped)),
    );
    if let Some(reader) = &admin.reader {
        let snapshot = reader.load();
        put(
            "snapshot",
            json!({ "version": snapshot.version, "complete": snapshot.complete }),
        );
    }
    for (name, part) in &admin.parts {
        put(name, part());
    }
    dump
}

/// Every problem, by file, line and object.
pub(super) fn problems(admin: &Admin) -> Value {
    let Some(reader) = &admin.reader else { return json!([]) };
    let snapshot = reader.load();
    let all = snapshot.problems.values().flat_map(|problems| problems.iter());
    sorted(all.map(|problem| ((problem.place.clone(), problem.clone()), value(problem))))
}

/// `/certs`: every identity wanted, with its leaf or why there is none.
pub(super) fn certificates(admin: &Admin) -> Value {
    let held = admin
        .certificates
        .as_ref()
        .map(crate::certs::Certificates::list)
        .unwrap_or_default();
    sorted(held.into_iter().map(|(identity, leaf)| {
        let entry = match leaf {
            Ok(leaf) => json!({
                "identity": identity.to_string(),
                "serial": &*leaf.serial,
                "notBefore": seconds(leaf.not_before),
                "notAfter": seconds(leaf.not_after),
                "since": seconds(leaf.since),
                "remainingSeconds": leaf.not_after.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs()),
            }),
            Err(why) => json!({ "identity": identity.to_string(), "missing": why.to_string() }),
        };
        (identity, entry)
    }))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn value(it: &impl Serialize) -> Value {
    serde_json::to_value(it).unwrap_or_else(|error| json!({ "unserializable": error.to_string() }))
}

fn sorted<K: Ord>(entries: impl Iterator<Item = (K, Value)>) -> Value {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().map(|(_, value)| value).collect()
}
