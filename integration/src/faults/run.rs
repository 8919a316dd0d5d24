//! Runs the faults one after the other and prints what was lost.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use act::process::Failure;

use super::{crowd, floods, kills, peers, surroundings, watch};
use crate::{
    check::{Bench, Point, Row, copy_yaml, policy_churn},
    observe::Capture,
    show::Screen,
    world::{RunDirectory, Settings, World},
};

/// What to do to which programs.
#[derive(Debug, Clone, clap::Args)]
pub struct FaultOptions {
    /// Only these faults: 1 kills, 2 silent peer, 3 black hole, 4 slow reader, 5 half-open flood, 6 connects, 7 clock
    /// jumps, 8 full disk, 9 policies, 10 a disk that fills up, 11 policies while 10,000 connections are open
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub only: Vec<u8>,
    /// The directory of Kubernetes YAML that says what runs
    #[arg(long, value_name = "DIR", default_value = "integration/demo")]
    pub config: PathBuf,
    /// Where logs, sockets and the capture are put
    #[arg(long, value_name = "DIR", default_value = "target/faults/run")]
    pub run: PathBuf,
    /// Where the mesh's programs are
    #[arg(long, value_name = "DIR", default_value = "target/debug")]
    pub bin: PathBuf,
}

/// How long leaves live meanwhile.
const LEAF_LIFE: Duration = Duration::from_secs(600);
/// Every fault, and what it is.
const FAULTS: [(u8, &str); 11] = [
    (1, "kill -9 of ztunnel, node agent and ca in every order"),
    (2, "a silent peer"),
    (3, "a black hole"),
    (4, "slow readers"),
    (5, "a flood of half-open connections"),
    (6, "50,000 connects in a minute"),
    (7, "a clock that jumps"),
    (8, "a full disk for logs"),
    (9, "200 policies that change each second"),
    (10, "a disk for logs that fills up in the middle of it"),
    (11, "10,000 open connections, and 200 policies that change each second"),
];
/// Where Debian puts, below the directory of an architecture, what stands between a program and the clock.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// Does the faults, prints the table, answers the exit code: 1 when something was lost that was not to be.
///
/// # Errors
/// When the world does not start, or a fault is asked for that there is not.
pub async fn run(options: FaultOptions, screen: Screen) -> Result<u8, Failure> {
    let wanted = |number: &u8| options.only.is_empty() || options.only.contains(number);
    if let Some(none) = options
        .only
        .iter()
        .find(|it| !FAULTS.iter().any(|(number, _)| number == *it))
    {
        return Err(Failure(format!("there is no fault {none}; --help lists them")));
    }
    let started = tokio::time::Instant::now();
    let (bench, clock) = lay(&options, screen).await?;
    let capture = Capture::start(&bench.world, "link.pcap", &[watch::MARKER]).await?;
    bench.world.start(&|step| screen.progress(step)).await?;
    let keeper = screen;
    tokio::spawn(bench.world.clone().keep(move |trouble| keeper.progress(trouble)));
    let mut rows = Vec::new();
    for (number, name) in FAULTS.into_iter().filter(|(number, _)| wanted(number)) {
        screen.progress(name);
        let mut point = Point::new(number);
        fault(&bench, &capture, &mut point, &clock).await;
        let of_it = point.rows();
        screen.print(&told(number, name, &of_it));
        rows.extend(of_it);
    }
    Ok(summed(&rows, &bench, started.elapsed()))
}

async fn fault(bench: &Bench, capture: &Capture, point: &mut Point, clock: &Path) {
    match point.number() {
        1 => kills::check(bench, capture, point).await,
        2 => peers::silent(bench, capture, point).await,
        3 => peers::black_hole(bench, capture, point).await,
        4 => peers::slow_reader(bench, capture, point).await,
        5 => floods::half_open(bench, capture, point).await,
        6 => floods::connects(bench, capture, point).await,
        7 => surroundings::clock(bench, capture, point, clock).await,
        8 => surroundings::full_disk(bench, capture, point).await,
        9 => policy_churn::check(bench, point).await,
        10 => surroundings::filling_disk(bench, capture, point).await,
        _ => crowd::check(bench, capture, point).await,
    }
}

/// The demo's world on a copy of its directory, not started yet, and the file that node-1's ztunnel's clock follows.
async fn lay(options: &FaultOptions, screen: Screen) -> Result<(Bench, PathBuf), Failure> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| Failure(format!("{}: {error}", path.display())));
    let faketime = faketime().ok_or_else(|| Failure("libfaketime is missing; `make faults` installs it".into()))?;
    let run = RunDirectory::take(&options.run)?;
    let copy = run.join("config");
    copy_yaml(&options.config, &copy)?;
    let clock = run.join("clock");
    fs::write(&clock, "+0\n").map_err(|error| Failure(format!("{}: {error}", clock.display())))?;
    let settings = Settings {
        config: copy,
        programs: absolute(&options.bin)?,
        leaf_life: LEAF_LIFE,
        log: None,
        mesh: true,
        clock: Some((faketime, clock.clone())),
    };
    screen.progress("two nodes and the link between them");
    let bench = Bench {
        world: World::lay(run, settings).await?,
        envoy: PathBuf::new(),
        promtool: PathBuf::new(),
        screen,
    };
    Ok((bench, clock))
}

fn faketime() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?.flatten();
    architectures
        .map(|it| it.path().join(FAKETIME))
        .find(|file| file.exists())
}

/// What was tried, what was seen and what was to be seen, whole: somebody reads it to learn what was lost.
fn told(number: u8, name: &str, rows: &[Row]) -> String {
    let mut text = format!("\n{number}  {name}\n");
    for row in rows {
        let mark = if row.pass { "ok    " } else { "FAILED" };
        text.push_str(&format!(
            "{mark} {}\n         {} (to be: {})\n",
            row.law, row.seen, row.expected
        ));
    }
    text
}

fn summed(rows: &[Row], bench: &Bench, took: Duration) -> u8 {
    let failed = rows.iter().filter(|row| !row.pass).count();
    bench.screen.print(&format!(
        "\nin {} s; logs and the capture are in {}\n{} as promised, {failed} not\n",
        took.as_secs(),
        bench.world.run_directory().join("").display(),
        rows.len() - failed
    ));
    u8::from(failed > 0 || rows.is_empty())
}
