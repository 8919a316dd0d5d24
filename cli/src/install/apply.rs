//! Objects into the cluster: nothing that somebody else made is touched, definitions come first, what a version no
//! longer holds goes.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    MANAGER,
    cluster_api::ClusterApi,
    object::{self, Object},
    progress::Progress,
};

/// How often a definition is looked at until it is served.
const BETWEEN: Duration = Duration::from_millis(100);
/// The label that says who made an object.
const MADE_BY: &str = "app.kubernetes.io/managed-by";

/// What a person agrees to.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Consent {
    /// Take over objects of the same names that something else made
    #[arg(long)]
    adopt: bool,
    /// Overwrite fields that something else has set since
    #[arg(long)]
    force_conflicts: bool,
}

/// Refuses to go on where an object of the plan is there and is not ours.
///
/// # Errors
/// A sentence that names them all.
pub(crate) async fn refuse_foreign(api: &ClusterApi, plan: &[Object], consent: &Consent) -> Result<(), String> {
    if consent.adopt {
        return Ok(());
    }
    let mut foreign = Vec::new();
    for object in plan {
        if let Some(found) = api.get(object).await?
            && !is_ours(&found)
        {
            let maker = found["metadata"]["labels"][MADE_BY].as_str();
            foreign.push(maker.map_or_else(
                || object.title(),
                |maker| format!("{} (made by {maker})", object.title()),
            ));
        }
    }
    match foreign.len() {
        0 => Ok(()),
        _ => Err(format!(
            "these objects are there already and were not made by weft install: {}; delete them, or take them over with --adopt",
            foreign.join(", ")
        )),
    }
}

/// Whether this command made an object.
pub(crate) fn is_ours(object: &Value) -> bool {
    object["metadata"]["labels"][MADE_BY] == MANAGER
}

/// Applies a plan, in its order.
///
/// # Errors
/// The first object that is refused, and why.
pub(crate) async fn all(
    api: &ClusterApi,
    plan: &[Object],
    consent: &Consent,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<(), String> {
    let force = consent.force_conflicts || consent.adopt;
    let (definitions, others): (Vec<_>, Vec<_>) = plan
        .iter()
        .partition(|object| object.kind_name() == "CustomResourceDefinition");
    for definition in &definitions {
        api.apply(definition, force).await.map_err(conflict)?;
    }
    for definition in &definitions {
        established(api, definition, deadline).await?;
    }
    progress.step(&format!("{} kinds defined", definitions.len()))?;
    for object in &others {
        api.apply(object, force).await.map_err(conflict)?;
    }
    progress.step(&format!("{} objects applied", others.len()))
}

fn conflict(sentence: String) -> String {
    if sentence.contains("conflict") {
        format!("{sentence}; take those fields back with --force-conflicts")
    } else {
        sentence
    }
}

async fn established(api: &ClusterApi, definition: &Object, deadline: Instant) -> Result<(), String> {
    loop {
        let found = api.get(definition).await?.unwrap_or_default();
        let conditions = || found["status"]["conditions"].as_array().into_iter().flatten();
        if conditions().any(|it| it["type"] == "Established" && it["status"] == "True") {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = conditions().find(|it| it["type"] == "NamesAccepted" && it["status"] == "False");
            return Err(format!(
                "{} is not served: {}",
                definition.title(),
                why.map_or("the API server does not say why", |it| super::text(it, "message"))
            ));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Removes what an earlier version made and this plan does not hold. Definitions stay: what users wrote would go too.
///
/// # Errors
/// The first object that cannot be removed, and why.
pub(crate) async fn prune(api: &ClusterApi, plan: &[Object]) -> Result<Vec<String>, String> {
    let kept: BTreeSet<_> = plan.iter().map(Object::title).collect();
    let mut gone = Vec::new();
    for found in installed(api).await? {
        let lasting = matches!(found.kind_name(), "CustomResourceDefinition" | "Namespace");
        if !lasting && !kept.contains(&found.title()) {
            api.delete(&found.kind(), found.namespace(), found.name()).await?;
            gone.push(found.title());
        }
    }
    Ok(gone)
}

/// Every object in the cluster that this command made, in the order in which they were applied.
///
/// # Errors
/// When they cannot be listed.
pub(crate) async fn installed(api: &ClusterApi) -> Result<Vec<Object>, String> {
    let ours = format!("{MADE_BY}={MANAGER},app.kubernetes.io/part-of=weft");
    let mut all = Vec::new();
    for kind in object::kinds() {
        for found in api.list(&kind, None, &ours).await? {
            all.push(Object::of(&kind, found)?);
        }
    }
    Ok(all)
}
