//! `weft uninstall`: pods are released, node by node, before anything goes; then everything this command made, and
//! what the mesh's own parts made. What stays is named, with the reason.

use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    PlaceOptions, apply,
    cluster_api::{ClusterApi, kind},
    object::{Kind, Object},
    progress::Progress,
    ready, text,
};
use crate::{
    cluster::{self, ClusterOptions},
    finding::counted,
    output::Format,
};

/// How often the cluster is asked.
const BETWEEN: Duration = Duration::from_millis(500);
/// The label that enrols a namespace or pod.
const MODE: &str = "weft.dev/dataplane-mode";
/// The annotation of a namespace that `weft namespace enable` has labelled.
const ENABLED_BY: &str = "weft.dev/enabled-by";
/// The ConfigMap that the ca publishes.
const ROOTS: &str = "weft-root";

/// What `weft uninstall` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallOptions {
    #[command(flatten)]
    place: PlaceOptions,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Keep our kinds even where nobody has written an object of them
    #[arg(long)]
    keep_crds: bool,
    /// Remove our kinds with every object that was written of them: policies, settings
    #[arg(long, conflicts_with = "keep_crds")]
    purge: bool,
    /// Remove the labels that enrol namespaces also where weft namespace enable did not set them
    #[arg(long)]
    labels: bool,
    /// Go on where a node does not release its pods, such as one that is gone
    #[arg(long)]
    force: bool,
}

/// What is in the cluster of ours, and of users who speak of us.
#[derive(Debug, Default)]
struct Inventory {
    /// What this command made, in the order in which it was applied.
    ours: Vec<Object>,
    /// Objects of our kinds that users wrote, by kind's plural.
    written: Vec<String>,
    /// Namespaces that are enrolled: name, and whether `weft namespace enable` did it.
    enrolled: Vec<(String, bool)>,
    /// Gateways of our class.
    waypoints: Vec<String>,
}

/// Takes the mesh out of a cluster.
///
/// # Errors
/// One sentence: what stands in the way.
pub(crate) fn uninstall(on: &ClusterOptions, options: &UninstallOptions, format: Format) -> Result<ExitCode, String> {
    cluster::block_on(async {
        let api = ClusterApi::new(on.client().await?);
        let found = inventory(&api).await?;
        let mut progress = Progress::new(format);
        if found.ours.is_empty() {
            return progress.finish("Nothing here was made by weft install: nothing was removed.");
        }
        if !options.yes {
            confirm(&found, options)?;
        }
        let deadline = Instant::now() + options.place.timeout;
        disenrol(&api, &found, options, &mut progress).await?;
        release(&api, &found, options, deadline, &mut progress).await?;
        remove(&api, &found, options, deadline, &mut progress).await?;
        for kept in kept(&found, options) {
            progress.remark(&kept)?;
        }
        progress.finish("Weft is uninstalled. Each node keeps the empty directory /run/weft until it restarts.")
    })
}

async fn inventory(api: &ClusterApi) -> Result<Inventory, String> {
    let mut found = Inventory {
        ours: apply::installed(api).await?,
        ..Inventory::default()
    };
    for definition in found.ours.iter().filter(|it| is_definition(it)) {
        let kind = defined(&definition.value);
        let all = api.list(&kind, None, "").await?;
        let users: Vec<_> = all.iter().filter(|object| !apply::is_ours(object)).collect();
        if !users.is_empty() {
            found.written.push(format!("{} {}", users.len(), kind.resource.plural));
        }
    }
    for namespace in api.list(&namespaces(), None, &format!("{MODE}=ambient")).await? {
        let by_us = namespace["metadata"]["annotations"][ENABLED_BY] == "weft";
        found
            .enrolled
            .push((text(&namespace["metadata"], "name").to_owned(), by_us));
    }
    let gateways = kind("gateway.networking.k8s.io", "v1", "Gateway", "gateways", false);
    for gateway in api.list(&gateways, None, "").await? {
        if gateway["spec"]["gatewayClassName"] == "weft-waypoint" {
            let metadata = &gateway["metadata"];
            found
                .waypoints
                .push(format!("{}/{}", text(metadata, "namespace"), text(metadata, "name")));
        }
    }
    Ok(found)
}

/// Asks the person, once, with what will go and what will stay.
fn confirm(found: &Inventory, options: &UninstallOptions) -> Result<(), String> {
    if !std::io::stdin().is_terminal() {
        return Err("nobody can be asked here: say --yes to uninstall".into());
    }
    let mut question = format!(
        "This removes {} that weft install made",
        counted(found.ours.len(), "object")
    );
    if options.purge && !found.written.is_empty() {
        question.push_str(&format!(", and what users wrote: {}", found.written.join(", ")));
    }
    question.push_str(". Every pod leaves the mesh.\n");
    for kept in kept(found, options) {
        question.push_str(&format!("{kept}\n"));
    }
    question.push_str("Go on? [y/N] ");
    let mut screen = std::io::stderr();
    let asked = screen.write_all(question.as_bytes()).and_then(|()| screen.flush());
    asked.map_err(|error| format!("nobody can be asked here ({error}): say --yes to uninstall"))?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| format!("no answer can be read ({error}): say --yes to uninstall"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err("nothing was removed".into())
    }
}

/// What stays in the cluster, and why: a sentence each.
fn kept(found: &Inventory, options: &UninstallOptions) -> Vec<String> {
    let mut all = Vec::new();
    if !keeps_definitions(found, options) {
    } else if found.written.is_empty() {
        all.push("Kept: the kinds of weft.dev (--keep-crds).".to_owned());
    } else {
        all.push(format!(
            "Kept: the kinds of weft.dev, because users wrote {}; remove them too with --purge.",
            found.written.join(", ")
        ));
    }
    let labelled: Vec<_> = found
        .enrolled
        .iter()
        .filter(|(_, by_us)| !by_us && !options.labels)
        .map(|(name, _)| name.as_str())
        .collect();
    if !labelled.is_empty() {
        all.push(format!(
            "Kept: the label {MODE} of {}, which weft namespace enable did not set; remove it too with --labels.",
            labelled.join(", ")
        ));
    }
    if !found.waypoints.is_empty() {
        all.push(format!(
            "Kept: the waypoints {}, which users deployed: delete them where they were written.",
            found.waypoints.join(", ")
        ));
    }
    all
}

fn keeps_definitions(found: &Inventory, options: &UninstallOptions) -> bool {
    options.keep_crds || (!found.written.is_empty() && !options.purge)
}

/// Removes the labels, so that the agents release their pods while all of the mesh still runs.
async fn disenrol(
    api: &ClusterApi,
    found: &Inventory,
    options: &UninstallOptions,
    progress: &mut Progress,
) -> Result<(), String> {
    let leaving: Vec<_> = found
        .enrolled
        .iter()
        .filter(|(_, by_us)| *by_us || options.labels)
        .map(|(name, _)| name)
        .collect();
    let nothing = json!({ "metadata": { "labels": { MODE: null }, "annotations": { ENABLED_BY: null } } });
    for name in &leaving {
        api.merge(&namespaces(), None, name, &nothing).await?;
    }
    if leaving.is_empty() {
        return Ok(());
    }
    progress.step(&format!(
        "{} taken out of the mesh",
        counted(leaving.len(), "namespace")
    ))
}

/// Has the agent of every node release its pods and take away its CNI plugin: its DaemonSet runs `remove` instead of
/// `agent`, and is ready on a node when nothing of us is left there.
async fn release(
    api: &ClusterApi,
    found: &Inventory,
    options: &UninstallOptions,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<(), String> {
    let Some(agent) = found
        .ours
        .iter()
        .find(|it| it.kind_name() == "DaemonSet" && it.name() == "weft-cni")
    else {
        return Ok(());
    };
    let removing = removing(&agent.value)?;
    api.merge(&agent.kind(), agent.namespace(), agent.name(), &removing)
        .await?;
    match ready::wait(api, std::slice::from_ref(agent), deadline, &mut Progress::silent()).await {
        Ok(()) => progress.step("every node has released its pods and removed the CNI plugin"),
        Err(why) if options.force => progress.remark(&format!("goes on without them, as --force says: {why}")),
        Err(why) => Err(format!(
            "some nodes have not released their pods ({why}); nothing was removed yet: repair them, or go on with --force"
        )),
    }
}

/// The patch by which the agent's DaemonSet removes instead of captures, on all nodes at once.
fn removing(agent: &Value) -> Result<Value, String> {
    let container = &agent["spec"]["template"]["spec"]["containers"][0];
    let flags: Vec<_> = container["args"].as_array().into_iter().flatten().cloned().collect();
    let Some((Value::String(first), rest)) = flags.split_first() else {
        return Err(
            "the DaemonSet weft-cni does not run an agent as weft install made it: run weft upgrade first".into(),
        );
    };
    if first != "agent" && first != "remove" {
        return Err(format!(
            "the DaemonSet weft-cni runs {first:?}, not an agent: run weft upgrade first"
        ));
    }
    let mut arguments = vec![json!("remove"), json!("--stay")];
    arguments.extend(rest.iter().filter(|flag| **flag != "--stay").cloned());
    let mut container = container.clone();
    container["args"] = Value::Array(arguments);
    Ok(json!({ "spec": {
        "updateStrategy": { "rollingUpdate": { "maxUnavailable": "100%" } },
        "template": { "spec": { "containers": [container] } },
    }}))
}

/// Deletes what there is, what was applied last first, and waits until it is gone.
async fn remove(
    api: &ClusterApi,
    found: &Inventory,
    options: &UninstallOptions,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<(), String> {
    let keeps = keeps_definitions(found, options);
    let going: Vec<_> = found
        .ours
        .iter()
        .rev()
        .filter(|object| !(keeps && is_definition(object)))
        .collect();
    for object in &going {
        if object.kind_name() == "Namespace" {
            vacated(api, object.name(), deadline).await?;
        }
        api.delete(&object.kind(), object.namespace(), object.name()).await?;
    }
    let roots = kind("", "v1", "ConfigMap", "configmaps", false);
    for map in api.named(&roots, ROOTS).await? {
        if map["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "weft-ca" {
            api.delete(&roots, map["metadata"]["namespace"].as_str(), ROOTS).await?;
        }
    }
    gone(api, &going, deadline).await?;
    unmark(api).await?;
    progress.step(&format!("{} removed", counted(going.len(), "object")))
}

/// Takes our annotation off pods that no agent could reach; the policy that guards it is gone by now.
async fn unmark(api: &ClusterApi) -> Result<(), String> {
    let pods = kind("", "v1", "Pod", "pods", false);
    let nothing = json!({ "metadata": { "annotations": { act::config::CAPTURE: null } } });
    for pod in api.list(&pods, None, "").await? {
        let metadata = &pod["metadata"];
        if metadata["annotations"][act::config::CAPTURE].is_string() {
            let namespace = metadata["namespace"].as_str();
            api.merge(&pods, namespace, text(metadata, "name"), &nothing).await?;
        }
    }
    Ok(())
}

/// Waits until no pod is left in a namespace. Deleted with pods in it, it would be looked at again only after half the
/// longest grace any of them has, and a ztunnel's is a quarter of an hour.
async fn vacated(api: &ClusterApi, namespace: &str, deadline: Instant) -> Result<(), String> {
    let pods = kind("", "v1", "Pod", "pods", false);
    while Instant::now() < deadline && !api.list(&pods, Some(namespace), "").await?.is_empty() {
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}

async fn gone(api: &ClusterApi, going: &[&Object], deadline: Instant) -> Result<(), String> {
    // What stands in the namespace goes before it.
    let lasting: Vec<_> = going
        .iter()
        .filter(|it| matches!(it.kind_name(), "Namespace" | "CustomResourceDefinition"))
        .collect();
    loop {
        let mut left = BTreeSet::new();
        for object in &lasting {
            if api.get(object).await?.is_some() {
                left.insert(object.title());
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let all: Vec<_> = left.into_iter().collect();
            return Err(format!(
                "deleted but not gone in time: {}; kubectl get them -o yaml says what holds them",
                all.join(", ")
            ));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

fn is_definition(object: &Object) -> bool {
    object.kind_name() == "CustomResourceDefinition"
}

fn namespaces() -> Kind {
    kind("", "v1", "Namespace", "namespaces", true)
}

/// The kind that a definition defines.
fn defined(definition: &Value) -> Kind {
    let spec = &definition["spec"];
    let version = text(&spec["versions"][0], "name");
    let cluster = spec["scope"] == "Cluster";
    kind(
        text(spec, "group"),
        version,
        text(&spec["names"], "kind"),
        text(&spec["names"], "plural"),
        cluster,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(purge: bool, keep_crds: bool, labels: bool) -> UninstallOptions {
        UninstallOptions {
            place: PlaceOptions {
                mesh_namespace: "weft-system".into(),
                timeout: Duration::ZERO,
            },
            yes: true,
            keep_crds,
            purge,
            labels,
            force: false,
        }
    }

    #[test]
    fn what_stays_is_named_with_its_reason() {
        let empty = Inventory::default();
        assert_eq!(kept(&empty, &options(false, false, false)), Vec::<String>::new());
        assert_eq!(kept(&empty, &options(false, true, false)).len(), 1);

        let used = Inventory {
            written: vec!["2 authorizationpolicies".into()],
            enrolled: vec![("by-us".into(), true), ("by-hand".into(), false)],
            waypoints: vec!["shop/waypoint".into()],
            ..Inventory::default()
        };
        let all = kept(&used, &options(false, false, false)).join("\n");
        assert!(
            all.contains("2 authorizationpolicies") && all.contains("--purge"),
            "{all}"
        );
        assert!(all.contains("by-hand") && !all.contains("by-us"), "{all}");
        assert!(all.contains("shop/waypoint"), "{all}");
        assert_eq!(kept(&used, &options(true, false, true)).len(), 1);
    }

    #[test]
    fn the_agent_removes_with_the_flags_it_captured_with() {
        let agent = |args: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "name": "weft-cni", "image": "i", "args": args }] } } } });
        let patch = removing(&agent(json!(["agent", "--cni-bin-dir=/x"]))).unwrap();
        let container = &patch["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["remove", "--stay", "--cni-bin-dir=/x"]));
        assert_eq!(container["image"], "i");
        // Asked again after a break.
        assert_eq!(removing(&agent(container["args"].clone())).unwrap(), patch);
        removing(&agent(json!([]))).unwrap_err();
        removing(&agent(json!(["rules"]))).unwrap_err();
    }
}
