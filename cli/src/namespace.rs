//! `weft namespace`: which namespaces are in the mesh. Comes in: names. Goes out: the label of design 28 set or
//! removed, the same as a kubectl line, and every pod that follows, or why it does not.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use act::config::MODE;
use clap_complete::engine::ArgValueCandidates;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    cluster::sentence,
    complete,
    enrolment::{self, Standing},
    events,
    output::{self, Answer, Format, Table, finish, print},
    pods::{self, MESH},
};

/// Says on a namespace that this command set the label, so that whoever removes the mesh may remove it.
pub(crate) const ENABLED_BY: &str = "weft.dev/enabled-by";
/// Who sets it.
const OWNER: &str = "weft";
/// Exit code when a pod did not follow in time.
const LEFT_BEHIND: u8 = 2;
/// How often the pods are looked at while waiting.
const LOOK: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  weft namespace enable shop        every pod of shop gets mutual TLS, without a restart
  weft namespace disable shop       and loses it again
  weft namespace list               which namespaces are in the mesh, and how many of their pods

Exit codes: 0 every pod followed, 2 one did not within --timeout, 1 error.";

/// What to do with namespaces.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Action {
    /// Capture every pod of these namespaces: running ones at once, new ones before they start
    Enable(Which),
    /// Release every pod of these namespaces; established connections live on
    Disable(Which),
    /// Which namespaces are in the mesh, and how many of their pods are captured
    List,
}

/// Which namespaces, and how long to wait for their pods.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The namespaces
    #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::namespaces))]
    names: Vec<String>,
    /// Set the label and go
    #[arg(long)]
    no_wait: bool,
    /// The longest to wait for the pods
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Does it.
///
/// # Errors
/// When the API server refuses, or a namespace cannot be in the mesh.
pub(crate) async fn run(client: &Client, action: &Action, format: Format) -> Answer {
    match action {
        Action::Enable(which) => set(client, which, true).await,
        Action::Disable(which) => set(client, which, false).await,
        Action::List => list(client, format).await,
    }
}

async fn set(client: &Client, which: &Which, enable: bool) -> Answer {
    for name in &which.names {
        if enable && enrolment::is_excluded(name) {
            return Err(format!(
                "namespace {name} is never captured: what the cluster and the mesh themselves need must not need the mesh"
            ));
        }
        label(client, name, enable).await?;
    }
    if which.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    if enable && pods::parts(client).await?.is_empty() {
        output::text(&format!(
            "no mesh is installed yet (namespace {MESH} has no pod of it): the pods are captured once it is; weft install\n"
        ))?;
        return Ok(ExitCode::from(LEFT_BEHIND));
    }
    let mut all_followed = true;
    for name in &which.names {
        all_followed &= follow(client, name, enable, which.timeout).await?;
    }
    Ok(ExitCode::from(if all_followed { 0 } else { LEFT_BEHIND }))
}

/// Sets or removes the label, and says so with the kubectl line that does the same.
async fn label(client: &Client, name: &str, enable: bool) -> Result<(), String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces
        .get_opt(name)
        .await
        .map_err(|error| sentence(&format!("read namespace {name}"), &error))?
        .ok_or_else(|| format!("no namespace {name}; create it with: kubectl create namespace {name}"))?;
    let labelled = found.metadata.labels.as_ref().and_then(|labels| labels.get(MODE));
    let is_enabled = labelled.is_some_and(|mode| mode == "ambient");
    let kubectl = if enable {
        format!("kubectl label namespace {name} {MODE}=ambient --overwrite")
    } else {
        format!("kubectl label namespace {name} {MODE}-")
    };
    let Some(patch) = patch(labelled.map(String::as_str), enable) else {
        let state = if is_enabled { "enabled" } else { "not enabled" };
        return output::text(&format!("namespace {name} was {state} already ({kubectl})\n"));
    };
    namespaces
        .patch(name, &PatchParams::apply(OWNER), &Patch::Merge(patch))
        .await
        .map_err(|error| sentence(&format!("label namespace {name}"), &error))?;
    let done = if enable { "enabled" } else { "disabled" };
    output::text(&format!("namespace {name} {done}, as by: {kubectl}\n"))
}

/// What changes on a namespace with this label; `None`: nothing.
fn patch(labelled: Option<&str>, enable: bool) -> Option<Value> {
    let metadata = match (labelled, enable) {
        (Some("ambient"), true) | (None, false) => return None,
        (_, true) => json!({ "labels": { MODE: "ambient" }, "annotations": { ENABLED_BY: OWNER } }),
        (_, false) => json!({ "labels": { MODE: null }, "annotations": { ENABLED_BY: null } }),
    };
    Some(json!({ "metadata": metadata }))
}

/// Waits for every pod that should follow; says who did not, and why.
async fn follow(client: &Client, name: &str, enable: bool, patience: Duration) -> Result<bool, String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let deadline = Instant::now() + patience;
    let mut progress = Progress::default();
    loop {
        let all = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| sentence(&format!("list the pods of namespace {name}"), &error))?
            .items;
        let standings: Vec<_> = all
            .iter()
            .map(|pod| (pod, enrolment::standing(pod, name, enable)))
            .collect();
        let waits = standings.iter().filter(|(_, standing)| standing.waits()).count();
        let concerned = standings.iter().filter(|(_, standing)| standing.is_concerned()).count();
        let verb = if enable { "captured" } else { "released" };
        progress.tell(&format!("{} of {concerned} pods of {name} {verb}", concerned - waits));
        if waits == 0 || Instant::now() >= deadline {
            progress.end();
            report(client, name, &standings, verb).await?;
            return Ok(waits == 0);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many followed, and a row for each pod that did not.
async fn report(client: &Client, name: &str, standings: &[(&Pod, Standing)], verb: &str) -> Result<(), String> {
    let waits = standings.iter().filter(|(_, standing)| standing.waits()).count();
    let concerned = standings.iter().filter(|(_, standing)| standing.is_concerned()).count();
    output::text(&format!(
        "namespace {name}: {} of {concerned} pods {verb}\n",
        concerned - waits
    ))?;
    let why_waiting = match waits {
        0 => Default::default(),
        _ => events::last_words(client, name).await?,
    };
    let mut table = Table::new(&["POD", "NODE", "NOT IN STEP BECAUSE"]);
    for (pod, standing) in standings {
        let Some(why) = standing.why() else { continue };
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let heard = why_waiting.get(&pod_name).filter(|_| standing.waits());
        let why = heard.map_or_else(|| why.to_owned(), |said| format!("{why}: {said}"));
        table.row([pod_name, node.unwrap_or_default(), why]);
    }
    if table.is_empty() {
        return Ok(());
    }
    output::table(&table, "")
}

/// A line on a terminal that is written anew; silence elsewhere.
#[derive(Default)]
struct Progress {
    told: String,
}

impl Progress {
    fn tell(&mut self, line: &str) {
        if self.told != line && std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
            line.clone_into(&mut self.told);
        }
    }

    fn end(&mut self) {
        if !self.told.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

async fn list(client: &Client, format: Format) -> Answer {
    let doing = |what: &'static str| move |error: kube::Error| sentence(&format!("list the {what}"), &error);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespaces = namespaces
        .list(&ListParams::default())
        .await
        .map_err(doing("namespaces"))?;
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list(&ListParams::default()).await.map_err(doing("pods"))?.items;
    let rows: Vec<Value> = namespaces.items.iter().map(|it| row(it, &pods)).collect();
    if format != Format::Table {
        return print(&json!(rows), format);
    }
    let mut table = Table::new(&["NAMESPACE", "MODE", "PODS", "CAPTURED", "WAITING", "ENABLED BY"]);
    for row in rows {
        let text = |field: &str| output::said(&row[field]);
        let number = |field: &str| row[field].to_string();
        table.row([
            text("namespace"),
            text("mode"),
            number("pods"),
            number("captured"),
            number("waiting"),
            text("enabledBy"),
        ]);
    }
    finish(&table, "no namespace", format)
}

/// One namespace in the list.
fn row(namespace: &Namespace, pods: &[Pod]) -> Value {
    let metadata = &namespace.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let mode = metadata.labels.as_ref().and_then(|labels| labels.get(MODE));
    let by = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ENABLED_BY));
    let enabled = mode.is_some_and(|mode| mode == "ambient") && !enrolment::is_excluded(&name);
    let own: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.namespace.as_ref() == Some(&name))
        .collect();
    let waiting = own
        .iter()
        .filter(|pod| enrolment::standing(pod, &name, enabled).waits());
    json!({
        "namespace": name,
        "mode": if enabled { "ambient" } else { "none" },
        "pods": own.len(),
        "captured": own.iter().filter(|pod| enrolment::is_captured(pod)).count(),
        "waiting": waiting.count(),
        "enabledBy": match (enabled, by) {
            (true, Some(by)) => by.as_str(),
            (true, None) => "a label",
            (false, _) => "",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_label_that_this_command_set_is_marked_as_its_own() {
        assert_eq!(patch(Some("ambient"), true), None, "whoever set it keeps it");
        assert_eq!(patch(None, false), None);
        for labelled in [None, Some("none")] {
            let patch = patch(labelled, true).expect("a change");
            assert_eq!(patch["metadata"]["labels"][MODE], "ambient");
            assert_eq!(patch["metadata"]["annotations"][ENABLED_BY], OWNER);
        }
        let patch = patch(Some("ambient"), false).expect("a change");
        assert_eq!(
            patch,
            json!({ "metadata": { "labels": { MODE: null }, "annotations": { ENABLED_BY: null } } })
        );
    }

    #[test]
    fn a_namespace_is_listed_with_its_own_pods() {
        let namespace =
            serde_json::from_value(json!({ "metadata": { "name": "shop", "labels": { MODE: "ambient" } } }));
        let pod = |namespace: &str, captured: bool| -> Pod {
            let annotations = if captured {
                json!({ act::config::CAPTURE: "captured" })
            } else {
                json!({})
            };
            serde_json::from_value(
                json!({ "metadata": { "name": "a", "namespace": namespace, "annotations": annotations } }),
            )
            .expect("a pod")
        };
        let listed = row(
            &namespace.expect("a namespace"),
            &[pod("shop", true), pod("shop", false), pod("other", true)],
        );
        assert_eq!(
            listed,
            json!({ "namespace": "shop", "mode": "ambient", "pods": 2, "captured": 1, "waiting": 1, "enabledBy": "a label" })
        );
    }
}
