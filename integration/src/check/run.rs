//! Runs the points, together where they do not disturb each other, and prints the table.

use std::{fs, path::Path, time::Duration};

use act::process::Failure;

use super::{
    Bench, Point, Row, bad_input, enablement, identity, load, policy, policy_churn, prometheus, rotation, routing,
    scrape, third_party, upgrade, waypoint_down, wire, world,
};
use crate::{
    observe::Capture,
    show::{Screen, Table},
    world::{RunDirectory, Settings, World},
};

/// Which points are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<u8>);

/// What the check needs beside the demo's own objects.
const STOCK: &str = include_str!("../../check/stock.yaml");
/// How long leaves live during the check.
const LEAF_LIFE: Duration = Duration::from_secs(60);
/// Series leave sooner than anybody would wait for.
const IDLE: (&str, &str) = ("command: [ztunnel]", "command: [ztunnel, --metric-idle=1m]");
/// Every point that needs the mesh.
const POINTS: [u8; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

impl Selection {
    /// These points, or all there are. Point 0 is the world without a mesh, and the only one then.
    ///
    /// # Errors
    /// When there is no such point.
    pub fn new(only: &[u8], mesh: bool) -> Result<Self, Failure> {
        let there: &[u8] = if mesh { &POINTS } else { &[0] };
        match only.iter().find(|point| !there.contains(point)) {
            Some(point) => Err(Failure(format!("there is no point {point}; there are {there:?}"))),
            None if only.is_empty() => Ok(Self(there.to_vec())),
            None => Ok(Self(only.to_vec())),
        }
    }

    fn has(&self, point: u8) -> bool {
        self.0.contains(&point)
    }
}

/// Starts a world on a copy of the directory, asserts the points, prints what was found; answers the exit code.
///
/// # Errors
/// When the world does not start.
pub async fn run(
    run: RunDirectory,
    mut settings: Settings,
    selection: &Selection,
    (envoy, promtool): (&Path, &Path),
    screen: &Screen,
) -> Result<u8, Failure> {
    let copy = run.join("config");
    copy_yaml(&settings.config, &copy)?;
    settings.config = copy;
    settings.leaf_life = LEAF_LIFE;
    let started = tokio::time::Instant::now();
    let mesh = settings.mesh;
    screen.progress("two nodes and the link between them");
    let world = World::lay(run, settings).await?;
    let bench = Bench {
        world,
        envoy: envoy.to_owned(),
        promtool: promtool.to_owned(),
        screen: *screen,
    };
    if mesh {
        bench.write("60-stock.yaml", STOCK)?;
        bench.edit("00-mesh.yaml", &[IDLE])?;
    }
    // Before anything runs, so that every stream is seen from its beginning.
    let capture = Capture::start(&bench.world, "link.pcap", &[]).await?;
    bench.world.start(&|step| screen.progress(step)).await?;
    let keeper = *screen;
    tokio::spawn(bench.world.clone().keep(move |trouble| keeper.progress(trouble)));
    let mut rows = points(&bench, capture, selection).await;
    rows.sort_by_key(|row| row.point);
    screen.print(&table(&rows).render(screen.width()));
    let failed = rows.iter().filter(|row| !row.pass).count();
    screen.print(&format!(
        "in {} s; logs and captures are in {}\n{} passed, {failed} failed\n",
        started.elapsed().as_secs(),
        bench.world.run_directory().join("").display(),
        rows.len() - failed
    ));
    Ok(u8::from(failed > 0 || rows.is_empty()))
}

/// Those that change who is in the mesh, load the machine or kill what others need run after the others.
async fn points(bench: &Bench, capture: Capture, selection: &Selection) -> Vec<Row> {
    let mut first = Point::new(1);
    if selection.has(1) {
        bench.tell("point 1: what crosses the link");
        wire::check(bench, &capture, &mut first).await;
    }
    let (mut rows, rotating) = tokio::join!(in_turn(bench, selection), rotating(bench, selection));
    rows.extend(rotating);
    rows.extend(churned(bench, selection).await);
    if selection.has(1) || selection.has(5) {
        drop(capture);
        let mut point = Point::new(5);
        match Capture::start(&bench.world, "release.pcap", &[]).await {
            Ok(capture) if selection.has(5) => {
                bench.tell("point 5: leaving and entering the mesh under load");
                enablement::check(bench, &capture, &mut point, &mut first).await;
            }
            Ok(capture) => {
                first.step("the namespace leaves the mesh", bench.enrol(&capture, false).await);
                wire::check_released(bench, &capture, &mut first).await;
                first.step("the namespace is in the mesh again", bench.enrol(&capture, true).await);
            }
            Err(failure) => {
                point.step::<()>("the link is captured", Err(failure));
            }
        }
        rows.extend(point.rows());
    } else {
        drop(capture);
    }
    rows.extend(first.rows());
    if selection.has(9) {
        bench.tell("point 9: five hundred connections");
        let mut point = Point::new(9);
        load::check(bench, &mut point).await;
        rows.extend(point.rows());
    }
    if selection.has(11) {
        bench.tell("point 11: ztunnels are replaced, killed and taken back under load");
        let mut point = Point::new(11);
        upgrade::check(bench, &mut point).await;
        rows.extend(point.rows());
    }
    let mut point = Point::new(0);
    if selection.has(0) {
        world::check(bench, &mut point).await;
    } else {
        let ended: Vec<_> = bench.world.ended().await.iter().map(ToString::to_string).collect();
        point.assert(
            "nothing ended that nobody ended",
            "",
            ended.join("; "),
            ended.is_empty(),
        );
    }
    rows.extend(point.rows());
    rows
}

async fn in_turn(bench: &Bench, selection: &Selection) -> Vec<Row> {
    let mut rows = Vec::new();
    for number in [2, 3, 4, 8, 10, 7].into_iter().filter(|number| selection.has(*number)) {
        let mut point = Point::new(number);
        match number {
            2 => {
                bench.tell("point 2: who calls");
                identity::check(bench, &mut point).await;
            }
            3 => {
                bench.tell("point 3: a route, and its change under load");
                routing::check(bench, &mut point).await;
            }
            4 => {
                bench.tell("point 4: policies");
                policy::check(bench, &mut point).await;
            }
            8 => {
                bench.tell("point 8: bad input");
                bad_input::check(bench, &mut point).await;
            }
            10 => {
                bench.tell("point 10: third parties");
                third_party::check(bench, &mut point).await;
                scrape::check(bench, &mut point).await;
                prometheus::check(bench, &mut point).await;
            }
            _ => {
                bench.tell("point 7: around a waypoint");
                waypoint_down::check(bench, &mut point).await;
            }
        }
        rows.extend(point.rows());
    }
    rows
}

/// Its policies deny what others ask for, so it comes when nobody asks.
async fn churned(bench: &Bench, selection: &Selection) -> Vec<Row> {
    if !selection.has(4) {
        return Vec::new();
    }
    bench.tell("point 4: two hundred policies change each second");
    let mut point = Point::new(4);
    policy_churn::check(bench, &mut point).await;
    point.rows()
}

async fn rotating(bench: &Bench, selection: &Selection) -> Vec<Row> {
    if !selection.has(6) {
        return Vec::new();
    }
    bench.tell("point 6: three minutes of load while leaves that live 60 s rotate");
    let mut point = Point::new(6);
    rotation::check(bench, &mut point).await;
    point.rows()
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["", "point", "law", "expected", "seen"]);
    for row in rows {
        let mark = if row.pass { "ok" } else { "FAILED" };
        table.row([mark, &row.point.to_string(), &row.law, &row.expected, &row.seen]);
    }
    table
}

/// Copies the YAML of a directory, so that it may be edited.
pub(crate) fn copy_yaml(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure(format!("{} cannot be copied: {error}", from.display()));
    fs::create_dir_all(to).map_err(failed)?;
    for file in crate::world::objects::yaml_files(from)? {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, to.join(name)).map_err(failed)?;
    }
    Ok(())
}
