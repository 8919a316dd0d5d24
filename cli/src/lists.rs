//! The lists: workloads, services, policies.

use std::collections::BTreeMap;

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use crate::{
    complete,
    output::{self, Answer, Format, Table, count, finish, list, print, said},
    source::Source,
};

/// A list that may be narrowed to one namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Namespaced {
    /// Only this namespace
    #[arg(short, long, add = ArgValueCandidates::new(complete::namespaces))]
    namespace: Option<String>,
}

/// Every workload.
pub(crate) async fn workloads(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        "NODE",
        "ADDRESS",
        "IDENTITY",
        "CAPTURE",
        "PHASE",
        "WAYPOINT",
    ]);
    rows(
        from,
        &["workloads"],
        |it| &it["namespace"],
        which,
        format,
        |it| {
            table.row([
                said(&it["namespace"]),
                said(&it["name"]),
                said(&it["node"]),
                list(&it["addresses"]),
                said(&it["identity"]),
                said(&it["capture"]),
                said(&it["phase"]),
                named(&it["waypoint"]),
            ]);
        },
    )
    .await?;
    finish(&table, "no workload", format)
}

/// Every Service and ExternalService.
pub(crate) async fn services(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mut table = Table::new(&[
        "NAMESPACE",
        "SERVICE",
        "ADDRESS",
        "PORTS",
        "READY",
        "WAYPOINT",
        "ROUTES",
        "HOSTS",
    ]);
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    rows(
        from,
        &["services", "externalServices"],
        |it| &it["key"]["namespace"],
        which,
        format,
        |it| {
            let endpoints = items(&it["endpoints"]);
            let ports = items(&it["ports"]);
            // An ExternalService is known by its hosts: where its connections go says more than what is ready.
            let (addresses, number, ready) = if it["hosts"].is_array() {
                (
                    list(&it["networks"]),
                    "number",
                    format!("outside: {}", said(&it["resolution"])),
                )
            } else {
                let ready = endpoints.iter().filter(|endpoint| endpoint["ready"] == true).count();
                (list(&it["addresses"]), "port", format!("{ready}/{}", endpoints.len()))
            };
            let ports: Vec<_> = ports.iter().map(|port| port[number].to_string()).collect();
            let routes: Vec<_> = items(&it["routes"])
                .iter()
                .map(|route| said(&route["object"]["name"]))
                .collect();
            table.row([
                said(&it["key"]["namespace"]),
                said(&it["key"]["name"]),
                addresses,
                ports.join(","),
                ready,
                named(&it["waypoint"]),
                routes.join(","),
                list(&it["hosts"]),
            ]);
        },
    )
    .await?;
    finish(&table, "no Service", format)
}

/// Every policy that binds something, with what it binds.
pub(crate) async fn policies(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mesh = from.mesh().await?;
    let mut found: BTreeMap<(String, String), (Value, Vec<String>)> = BTreeMap::new();
    let kinds = [
        ("pod", "workloads"),
        ("Service", "services"),
        ("ExternalService", "externalServices"),
    ];
    for (kind, field) in kinds {
        for bound in mesh[field].as_array().into_iter().flatten() {
            let name = if bound["name"].is_string() {
                said(&bound["name"])
            } else {
                said(&bound["key"]["name"])
            };
            for applied in bound["policies"]["policies"].as_array().into_iter().flatten() {
                let policy = &applied["policy"];
                let key = (said(&policy["object"]["namespace"]), said(&policy["object"]["name"]));
                found
                    .entry(key)
                    .or_insert_with(|| (policy.clone(), Vec::new()))
                    .1
                    .push(format!("{kind} {name}"));
            }
        }
    }
    found.retain(|(namespace, _), _| which.namespace.as_ref().is_none_or(|wanted| wanted == namespace));
    if format != Format::Table {
        let all = found
            .values()
            .map(|(policy, binds)| json!({ "policy": policy, "binds": binds }));
        return print(&all.collect(), format);
    }
    let mut table = Table::new(&["NAMESPACE", "POLICY", "ACTION", "RULES", "DRY RUN", "BINDS"]);
    for ((namespace, name), (policy, binds)) in found {
        let broken = if policy["broken"].is_null() {
            String::new()
        } else {
            " (broken: refuses all)".into()
        };
        let dry = if policy["dry_run"] == true { "yes" } else { "no" };
        let action = said(&policy["action"]).to_uppercase() + &broken;
        table.row([
            namespace,
            name,
            action,
            count(&policy["rules"]),
            dry.into(),
            binds.join(", "),
        ]);
    }
    finish(&table, "no policy binds anything", format)
}

async fn rows<'n>(
    from: &Source,
    fields: &[&str],
    namespace: impl Fn(&Value) -> &Value,
    which: &'n Namespaced,
    format: Format,
    mut row: impl FnMut(&Value),
) -> Result<(), String> {
    let mesh = from.mesh().await?;
    let wanted = |it: &&Value| {
        which
            .namespace
            .as_ref()
            .is_none_or(|wanted: &'n String| namespace(it) == wanted.as_str())
    };
    let all = fields.iter().filter_map(|field| mesh[*field].as_array()).flatten();
    let found: Vec<&Value> = all.filter(wanted).collect();
    if format == Format::Table {
        found.into_iter().for_each(&mut row);
        Ok(())
    } else {
        output::value(&json!(found), format)
    }
}

/// `namespace/name` of a key; empty when there is none.
fn named(key: &Value) -> String {
    match (key["namespace"].as_str(), key["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
}
