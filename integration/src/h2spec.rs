//! The judge of HTTP/2: h2spec, which nobody here wrote, against port 15008 of a captured pod. The demo's world and
//! its mesh come in, what h2spec says of every case goes out. A case that fails is excused only by a row of the list
//! that says why it is not about a server of CONNECT; a row that names no case is a failure, too. Never: traffic that
//! leaves the namespaces of the run.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use act::process::Failure;

use crate::{
    check::{Bench, copy_yaml, own_program},
    show::Screen,
    world::{RunDirectory, Settings, World},
};

/// Which judge, and of which programs.
#[derive(Debug, Clone, clap::Args)]
pub struct H2specOptions {
    /// h2spec's binary
    #[arg(long, value_name = "FILE", default_value = "target/tools/h2spec")]
    pub h2spec: PathBuf,
    /// The list of cases that do not apply, each with its reason
    #[arg(long, value_name = "FILE", default_value = "integration/h2spec/excused.md")]
    pub excused: PathBuf,
    /// Only these parts, such as http2/6.5 or hpack
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// The directory of Kubernetes YAML that says what runs
    #[arg(long, value_name = "DIR", default_value = "integration/demo")]
    pub config: PathBuf,
    /// Where logs and sockets are put
    #[arg(long, value_name = "DIR", default_value = "target/h2spec/run")]
    pub run: PathBuf,
    /// Where the mesh's programs are
    #[arg(long, value_name = "DIR", default_value = "target/debug")]
    pub bin: PathBuf,
}

/// The captured pod that is judged, by its port of HBONE, and the pod outside the mesh that the judge is in.
const JUDGED: &str = "10.77.2.22:15008";
const SEAT: &str = "plain/outsider";
/// Where the judge finds plain HTTP/2, in its own pod.
const BRIDGE: (&str, u16) = ("127.0.0.1", 18008);
/// How long one case may wait, and all of them together.
const CASE: &str = "3";
const ALL: Duration = Duration::from_secs(900);
/// Bytes of a header that is to be long: five of them, at 7 bits a letter, must be more than our largest frame, 64 KiB.
const HEADER: &str = "16000";

/// What h2spec said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Report {
    /// Cases that passed, by `section/number`.
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// Has the judge sit, prints what it says, and answers the exit code: 1 when a case failed that is not excused.
///
/// # Errors
/// When the world does not start, or the judge is missing.
pub async fn run(options: H2specOptions, screen: Screen) -> Result<u8, Failure> {
    let judge = absolute(&options.h2spec)?;
    if !judge.exists() {
        return Err(Failure(format!(
            "{} is missing; `make h2spec` builds it",
            judge.display()
        )));
    }
    let listed = fs::read_to_string(&options.excused)
        .map_err(|error| Failure(format!("{} cannot be read: {error}", options.excused.display())))?;
    let bench = world(&options, screen).await?;
    let identity = bench.outsider().await?.display().to_string();
    let own = own_program()?;
    let listen = format!("{}:{}", BRIDGE.0, BRIDGE.1);
    let words = [
        &*own,
        "bridge",
        "--listen",
        &*listen,
        "--to",
        JUDGED,
        "--identity",
        &*identity,
    ];
    let _bridge = bench.world.spawn_in(SEAT, "bridge", &words).await?;
    bench
        .world
        .wait_for("the bridge", || bench.world.listens(SEAT, BRIDGE.1))
        .await?;
    screen.progress("h2spec judges");
    let (judge, port) = (judge.display().to_string(), BRIDGE.1.to_string());
    let report = bench.world.run_directory().join("report.xml").display().to_string();
    let mut words = vec![
        &*judge,
        "-h",
        BRIDGE.0,
        "-p",
        &*port,
        "-o",
        CASE,
        "-S",
        "-j",
        &*report,
        "--max-header-length",
        HEADER,
    ];
    words.extend(options.only.iter().map(String::as_str));
    let finished = bench.world.run_in(SEAT, &words, ALL).await?;
    screen.print(&finished.stdout);
    screen.print(&finished.stderr);
    let text = fs::read_to_string(&report).map_err(|error| Failure(format!("{report} cannot be read: {error}")))?;
    let (said, code) = judged(&Report::read(&text), &excused(&listed), options.only.is_empty());
    screen.print(&said);
    Ok(code)
}

async fn world(options: &H2specOptions, screen: Screen) -> Result<Bench, Failure> {
    let run = RunDirectory::take(&options.run)?;
    let copy = run.join("config");
    copy_yaml(&options.config, &copy)?;
    let world = World::lay(run, Settings::of(copy, &options.bin)?).await?;
    world.start(&|step| screen.progress(step)).await?;
    Ok(Bench {
        world,
        envoy: PathBuf::new(),
        promtool: PathBuf::new(),
        screen,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure(format!("{}: {error}", path.display())))
}

/// What is to be said of a report in the end, and the exit code. `whole`: every case was tried.
fn judged(report: &Report, excused: &BTreeSet<String>, whole: bool) -> (String, u8) {
    let wrong: Vec<_> = report.failed.difference(excused).collect();
    let known = |case: &&String| report.passed.contains(*case) || report.failed.contains(*case);
    let unknown: Vec<_> = excused.iter().filter(|case| whole && !known(case)).collect();
    let tried = report.passed.len() + report.failed.len();
    let mut said = format!(
        "{} cases passed, {} failed, {} of them not excused; {} were skipped\n",
        report.passed.len(),
        report.failed.len(),
        wrong.len(),
        report.skipped.len()
    );
    for case in &wrong {
        said.push_str(&format!("FAILED  {case}\n"));
    }
    for case in &unknown {
        said.push_str(&format!("FAILED  {case} is excused, and there is no such case\n"));
    }
    (said, u8::from(!wrong.is_empty() || !unknown.is_empty() || tried == 0))
}

/// The cases that the list excuses: the first column of its table.
fn excused(list: &str) -> BTreeSet<String> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`'))
        .map(|(case, _)| case.to_owned())
        .collect()
}

impl Report {
    /// Reads a report in the form of JUnit, whose cases have a package (the section) and a name, and whose order
    /// numbers them.
    fn read(text: &str) -> Self {
        let mut report = Self::default();
        let mut number = 0;
        let mut section = String::new();
        for case in text.split("<testcase").skip(1) {
            let own = case.split_once("</testcase>").map_or(case, |(own, _)| own);
            let here = attribute(own, "package").unwrap_or_default();
            number = if here == section { number + 1 } else { 1 };
            section = here;
            let place = if own.contains("<failure") || own.contains("<error") {
                &mut report.failed
            } else if own.contains("<skipped") {
                &mut report.skipped
            } else {
                &mut report.passed
            };
            place.insert(format!("{section}/{number}"));
        }
        report
    }
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let (_, after) = text.split_once(&format!("{name}=\""))?;
    Some(after.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuites>
        <testsuite name="5.1. Stream States" package="http2/5.1" id="5.1" tests="3">
          <testcase package="http2/5.1" classname="idle" time="0.1"></testcase>
          <testcase package="http2/5.1" classname="half closed" time="0.1"><failure>Expect: this</failure></testcase>
          <testcase package="http2/5.1" classname="closed" time="0.1"><skipped></skipped></testcase>
        </testsuite>
        <testsuite name="6.1. DATA" package="http2/6.1" id="6.1" tests="1">
          <testcase package="http2/6.1" classname="padding" time="0.1"><error>cut off</error></testcase>
        </testsuite></testsuites>"#;

    fn set(cases: &[&str]) -> BTreeSet<String> {
        cases.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cases_are_numbered_within_their_section_and_told_apart() {
        let report = Report::read(REPORT);
        assert_eq!(report.passed, set(&["http2/5.1/1"]));
        assert_eq!(report.failed, set(&["http2/5.1/2", "http2/6.1/1"]));
        assert_eq!(report.skipped, set(&["http2/5.1/3"]));
    }

    #[test]
    fn only_what_the_list_names_is_excused_and_the_list_names_only_cases() {
        let report = Report::read(REPORT);
        let code = |excused: &[&str]| judged(&report, &set(excused), true).1;
        assert_eq!(code(&["http2/5.1/2", "http2/6.1/1"]), 0);
        assert_eq!(
            code(&["http2/5.1/1", "http2/5.1/2", "http2/6.1/1"]),
            0,
            "passes all the same"
        );
        assert_eq!(code(&["http2/5.1/2"]), 1);
        assert_eq!(code(&["http2/5.1/2", "http2/6.1/1", "http2/9.9/1"]), 1);
        assert_eq!(
            judged(&Report::default(), &set(&[]), true).1,
            1,
            "nothing tried is nothing passed"
        );
    }

    #[test]
    fn the_list_is_the_first_column_of_its_table() {
        let list = "# Cases\n\n| case | why |\n|---|---|\n| `http2/5.1/2` | because of `x` |\n";
        assert_eq!(excused(list), set(&["http2/5.1/2"]));
    }
}
