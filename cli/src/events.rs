//! What a cluster's events say. Comes in: a namespace. Goes out: its events, newest last.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};

use crate::cluster::sentence;

/// The most events read of one namespace.
const MOST: u32 = 1000;

/// The events of a namespace, oldest first.
///
/// # Errors
/// When the API server does not tell.
pub(crate) async fn of(client: &Client, namespace: &str) -> Result<Vec<Event>, String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let list = ListParams::default().limit(MOST);
    let found = events.list(&list).await;
    let mut found = found
        .map_err(|error| sentence(&format!("list the events of namespace {namespace}"), &error))?
        .items;
    found.sort_by_key(when);
    Ok(found)
}

/// The newest warning about each pod of a namespace.
///
/// # Errors
/// When the API server does not tell.
pub(crate) async fn last_words(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>, String> {
    Ok(newest_warnings(of(client, namespace).await?))
}

fn newest_warnings(events: Vec<Event>) -> BTreeMap<String, String> {
    let warnings = events.into_iter().filter(|event| {
        event.type_.as_deref() == Some("Warning") && event.involved_object.kind.as_deref() == Some("Pod")
    });
    // The events are sorted, so that later words replace earlier ones.
    warnings
        .filter_map(|event| Some((event.involved_object.name?, event.message?)))
        .collect()
}

/// When an event happened last; whoever reports it chooses one of three fields.
pub(crate) fn when(event: &Event) -> String {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let precise = series.or(event.event_time.as_ref()).map(|time| time.0.to_string());
    let last = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    last.or(precise).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_warning_of_each_pod_counts() {
        let event = |kind: &str, message: &str, time: &str| -> Event {
            let event = json!({ "metadata": {}, "type": kind, "message": message, "lastTimestamp": time,
                "involvedObject": { "kind": "Pod", "name": "web" } });
            serde_json::from_value(event).expect("an event")
        };
        let mut events = vec![
            event("Warning", "new", "2026-01-01T00:00:02Z"),
            event("Normal", "fine", "2026-01-01T00:00:03Z"),
            event("Warning", "old", "2026-01-01T00:00:01Z"),
        ];
        events.sort_by_key(when);
        assert_eq!(newest_warnings(events), BTreeMap::from([("web".into(), "new".into())]));
    }
}
