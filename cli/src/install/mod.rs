//! `weft install`, `upgrade` and `uninstall`. Comes in: a cluster and values. Goes out: the objects of the chart this
//! command carries, applied, ready or gone; each step with its time, and the reason where one does not end.

mod apply;
mod chart;
mod cluster_api;
mod object;
mod preflight;
mod progress;
mod ready;
mod record;
mod schema;
mod template;
mod trouble;
mod uninstall;
mod values;

use std::{process::ExitCode, time::Duration};

use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use self::preflight::OLDEST;
pub(crate) use self::uninstall::{UninstallOptions, uninstall};
use self::{
    apply::Consent, chart::Release, cluster_api::ClusterApi, object::Object, progress::Progress, record::Record,
    values::ValueOptions,
};
use crate::{
    cluster::{self, ClusterOptions},
    finding::Finding,
    output::{self, Format},
    pods::MESH,
};

/// Value of `app.kubernetes.io/managed-by` on everything this command makes.
const MANAGER: &str = "weft";

/// What `weft install` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallOptions {
    #[command(flatten)]
    values: ValueOptions,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    consent: Consent,
    /// Print the objects and touch nothing; needs no cluster
    #[arg(long)]
    dry_run: bool,
    /// Print every value with its default and its meaning
    #[arg(long, conflicts_with = "dry_run")]
    show_values: bool,
}

/// What `weft upgrade` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeOptions {
    #[command(flatten)]
    values: ValueOptions,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    consent: Consent,
    /// Forget the values of the installation; otherwise they stay, and those given are laid over them
    #[arg(long)]
    reset_values: bool,
}

/// Where, and how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlaceOptions {
    /// Namespace of the mesh
    #[arg(
        long,
        env = "WEFT_MESH_NAMESPACE",
        value_name = "NAME",
        default_value = "weft-system"
    )]
    mesh_namespace: String,
    /// How long to wait until everything is ready
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

type Answer = Result<ExitCode, String>;

/// Installs the mesh, and waits until it is ready.
///
/// # Errors
/// One sentence: what stands in the way.
pub(crate) fn install(on: &ClusterOptions, options: &InstallOptions, format: Format) -> Answer {
    if options.show_values {
        output::text(chart::values()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.dry_run {
        return print(&planned(&options.values, &options.place)?, format);
    }
    cluster::block_on(async {
        let api = ClusterApi::new(on.client().await?);
        let mut progress = Progress::new(format);
        carry_out(&api, &options.values, &options.place, &options.consent, &mut progress).await?;
        progress.finish(&format!(
            "Weft {} is installed. Next, enrol a namespace: kubectl label namespace NAME weft.dev/dataplane-mode=ambient",
            env!("CARGO_PKG_VERSION")
        ))
    })
}

/// Brings an installation to this version, with new values, and removes what it no longer holds.
///
/// # Errors
/// One sentence: what stands in the way.
pub(crate) fn upgrade(on: &ClusterOptions, options: &UpgradeOptions, format: Format) -> Answer {
    cluster::block_on(async {
        let api = ClusterApi::new(on.client().await?);
        let namespace = &options.place.mesh_namespace;
        let Some(record) = record::read(&api, namespace).await? else {
            return Err(format!(
                "weft install has installed nothing in namespace {namespace}: run weft install, or name its namespace with --mesh-namespace"
            ));
        };
        let mut progress = Progress::new(format);
        let mut values = options.values.clone();
        if !options.reset_values {
            values.before = record.values;
        }
        let plan = carry_out(&api, &values, &options.place, &options.consent, &mut progress).await?;
        let gone = apply::prune(&api, &plan).await?;
        for title in &gone {
            progress.step(&format!("removed {title}, which this version does not hold"))?;
        }
        progress.finish(&format!(
            "Weft is upgraded from {} to {}.",
            record.version,
            env!("CARGO_PKG_VERSION")
        ))
    })
}

/// Checks, applies and waits; the plan, as applied.
async fn carry_out(
    api: &ClusterApi,
    values: &ValueOptions,
    place: &PlaceOptions,
    consent: &Consent,
    progress: &mut Progress,
) -> Result<Vec<Object>, String> {
    let deadline = Instant::now() + place.timeout;
    let mut plan = planned(values, place)?;
    plan.push(Record::of(values)?.object(&place.mesh_namespace)?);
    plan.sort_by_key(Object::order);
    let found = preflight::check(api, &plan).await?;
    progress.step(&found.summary)?;
    for remark in found.remarks {
        progress.remark(&remark)?;
    }
    apply::refuse_foreign(api, &plan, consent).await?;
    apply::all(api, &plan, consent, deadline, progress).await?;
    ready::wait(api, &plan, deadline, progress).await?;
    Ok(plan)
}

/// What stands in the way of an install with the chart's own values, as rows; touches nothing.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn preflight(client: &Client) -> Result<Vec<Finding>, String> {
    let place = PlaceOptions {
        mesh_namespace: MESH.to_owned(),
        timeout: Duration::ZERO,
    };
    let values = ValueOptions::default();
    let mut plan = planned(&values, &place)?;
    plan.push(Record::of(&values)?.object(MESH)?);
    plan.sort_by_key(Object::order);
    preflight::look(&ClusterApi::new(client.clone()), &plan).await
}

/// Every object, labelled as ours.
fn planned(values: &ValueOptions, place: &PlaceOptions) -> Result<Vec<Object>, String> {
    let mut values = values.clone();
    // A person who brings the namespace along says so with --set namespace.create=false.
    values.beneath = json!({ "namespace": { "create": true } });
    let release = Release {
        namespace: &place.mesh_namespace,
        service: MANAGER,
        values: &values,
    };
    let mut plan = chart::definitions()?;
    plan.extend(chart::render(&release)?);
    for object in &mut plan {
        object.mark(MANAGER);
    }
    plan.sort_by_key(Object::order);
    Ok(plan)
}

fn print(plan: &[Object], format: Format) -> Answer {
    if format == Format::Json {
        let items: Vec<_> = plan.iter().map(|object| &object.value).collect();
        output::value(&json!({ "apiVersion": "v1", "kind": "List", "items": items }), format)?;
        return Ok(ExitCode::SUCCESS);
    }
    for object in plan {
        output::text("---\n")?;
        output::value(&object.value, Format::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A text field, or nothing.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
