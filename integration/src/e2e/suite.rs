//! Runs the points in order and prints the table.

use std::path::PathBuf;

use act::process::Failure;

use super::{
    artefacts, both_ways, churn,
    cluster::Cluster,
    commands, fenced, first_request, ground, ingress,
    manifests::SHOP,
    measure, mesh, outage, probes,
    reach::{Reach, ReachOptions, beside},
    reboot, rollouts, sample, smoke,
    stage::Stage,
    standing::Standing,
    static_pod, strict, through_waypoint, tokens, transcripts, uninstall,
};
use crate::{
    check::{Point, Row, table},
    show::Screen,
};

/// What is run, and where.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    reach: ReachOptions,
    /// Only these points, such as 1,3
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    only: Vec<u8>,
    /// Directory with the kinds of the Gateway API, applied where the cluster lacks them
    #[arg(long, value_name = "DIR")]
    gateway_api: Option<PathBuf>,
    /// The short run: install, capture, deny, rotate once
    #[arg(long, conflicts_with = "only")]
    smoke: bool,
    /// Leave the mesh and the workloads as they are at the end
    #[arg(long)]
    keep: bool,
    /// Where logs and objects are put when something fails
    #[arg(long, value_name = "DIR", default_value = "target/e2e")]
    artefacts: PathBuf,
    /// The program `weft`; default: beside this one
    #[arg(long, value_name = "FILE")]
    weft: Option<PathBuf>,
}

/// Points there are, in the order in which they are played. 0 is the measuring itself, without a mesh.
const POINTS: [u8; 12] = [0, 1, 6, 3, 5, 2, 7, 4, 8, 10, 11, 9];
/// Points of the short run.
const SMOKE: [u8; 2] = [1, 9];

/// Asserts the points, prints what was found, and answers the exit code.
///
/// # Errors
/// When there is no such point, or the cluster cannot be reached.
pub async fn run(options: &Options, screen: &Screen) -> Result<u8, Failure> {
    let started = tokio::time::Instant::now();
    let points = selected(options)?;
    let weft = match &options.weft {
        Some(weft) => weft.clone(),
        None => beside("weft")?,
    };
    let cluster = Cluster::new(Reach::new(&options.reach)?, weft.display().to_string());
    let nodes = cluster.nodes().await.map_err(|failure| {
        Failure(format!(
            "no cluster is reached; set KUBECONFIG or run `make e2e`: {failure}"
        ))
    })?;
    let stage = Stage::new(cluster, nodes, *screen);
    gateway_api(&stage, options).await?;
    let rows = play(&stage, options, &points).await;
    if !options.keep {
        clean(&stage).await?;
    }
    tell(screen, &stage, &rows, started.elapsed().as_secs());
    Ok(u8::from(rows.iter().any(|row| !row.pass) || rows.is_empty()))
}

/// A cluster without Gateways has no waypoints.
async fn gateway_api(stage: &Stage, options: &Options) -> Result<(), Failure> {
    const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";
    if stage.cluster.get(&["customresourcedefinition", GATEWAYS]).await.is_ok() {
        return Ok(());
    }
    let Some(directory) = &options.gateway_api else {
        stage.not_shown(
            2,
            "waypoints",
            "the cluster has no Gateway API, and --gateway-api names none",
        );
        return Ok(());
    };
    let directory = directory.display().to_string();
    let words = ["apply", "--server-side", "-f", &*directory];
    stage.cluster.kubectl(&words).await?;
    let name = format!("customresourcedefinition/{GATEWAYS}");
    let established = ["wait", "--for=condition=Established", &*name, "--timeout=30s"];
    stage.cluster.kubectl(&established).await.map(|_| ())
}

fn selected(options: &Options) -> Result<Vec<u8>, Failure> {
    if let Some(point) = options.only.iter().find(|point| !POINTS.contains(point)) {
        let mut there = POINTS;
        there.sort_unstable();
        return Err(Failure(format!("there is no point {point}; there are {there:?}")));
    }
    let wanted = |point: &u8| match options.smoke {
        true => SMOKE.contains(point),
        false => options.only.is_empty() || options.only.contains(point),
    };
    Ok(POINTS.into_iter().filter(wanted).collect())
}

async fn play(stage: &Stage, options: &Options, points: &[u8]) -> Vec<Row> {
    let before = match mesh::is_installed(&stage.cluster).await {
        true => None,
        false => Standing::of(&stage.cluster, &stage.nodes).await.ok(),
    };
    let mut rows = Vec::new();
    for number in points {
        stage.tell(&format!("point {number}"));
        let mut point = Point::new(*number);
        one(stage, options, &mut point, (*number, before.as_ref())).await;
        let found = point.rows();
        if found.iter().any(|row| !row.pass) {
            // Later points replace the pods whose logs say why.
            let place = options.artefacts.join(format!("point-{number}"));
            artefacts::save(&stage.cluster, &place).await;
            stage.tell(&format!("point {number} failed: {}", place.display()));
            let failed = found.iter().filter(|row| !row.pass);
            failed.for_each(|row| stage.tell(&format!("FAILED {}: {}", row.law, row.seen)));
        }
        rows.extend(found);
    }
    rows
}

/// One point; `before` is how the cluster stood without the mesh.
async fn one(stage: &Stage, options: &Options, point: &mut Point, (number, before): (u8, Option<&Standing>)) {
    if number > 1 {
        let there = mesh::ensure_shop(stage).await;
        if point.step("the mesh and the shop in it", there).is_none() {
            return;
        }
    }
    match number {
        0 => measure::check(stage, point).await,
        1 => {
            first_request::check(stage, point).await;
            if mesh::is_ready(&stage.cluster).await {
                transcripts::check(stage, point, &options.artefacts).await;
            }
            if options.smoke && mesh::is_ready(&stage.cluster).await {
                smoke::deny(stage, point).await;
                smoke::rotate(stage, point).await;
            }
        }
        2 => {
            both_ways::check(stage, point).await;
            ground::check(stage, point).await;
            strict::check(stage, point).await;
            through_waypoint::check(stage, point).await;
        }
        3 => rollouts::check(stage, point).await,
        4 => outage::check(stage, point).await,
        5 => probes::check(stage, point).await,
        6 => tokens::check(stage, point).await,
        7 => ingress::check(stage, point).await,
        8 => churn::check(stage, point).await,
        10 => {
            static_pod::check(stage, point).await;
            reboot::check(stage, point).await;
        }
        11 => {
            commands::check(stage, point).await;
            fenced::check(stage, point).await;
            sample::check(stage, point).await;
        }
        _ => uninstall::check(stage, point, before).await,
    }
}

/// Takes away what the points laid, also when they failed.
async fn clean(stage: &Stage) -> Result<(), Failure> {
    stage.tell("taking the tests' workloads away");
    stage.cluster.remove_namespace(SHOP).await?;
    if mesh::is_installed(&stage.cluster).await {
        mesh::uninstall(&stage.cluster).await?;
    }
    Ok(())
}

fn tell(screen: &Screen, stage: &Stage, rows: &[Row], seconds: u64) {
    screen.print(&table(rows).render(screen.width()));
    let failed: Vec<_> = rows.iter().filter(|row| !row.pass).collect();
    for row in &failed {
        screen.print(&format!(
            "FAILED point {}: {}: expected {}, seen {}\n",
            row.point, row.law, row.expected, row.seen
        ));
    }
    let not_shown = stage.all_not_shown();
    for promise in &not_shown {
        screen.print(&format!("not shown here: {promise}\n"));
    }
    screen.print(&format!(
        "in {seconds} s: {} passed, {} failed, {} not shown here\n",
        rows.len() - failed.len(),
        failed.len(),
        not_shown.len()
    ));
}
