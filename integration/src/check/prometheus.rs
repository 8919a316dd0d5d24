//! Point 10, too: Prometheus itself, which nobody here wrote, scrapes every process of the mesh, and its own answers say
//! what was sent.

use std::{fs, time::Duration};

use act::process::Failure;
use serde_json::Value;

use super::{Bench, Point};
use crate::{load::Load, world::Process};

/// Where it runs, and where it listens there: for nobody outside that namespace.
const PLACE: &str = "node-1";
const LISTENS: &str = "127.0.0.1:9090";
/// How long it may take to start, to scrape all of them, or to see a change.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until a series that is idle has left: the ztunnels' `--metric-idle` is a minute here.
const IDLE: Duration = Duration::from_secs(180);
/// Connections and requests that are sent.
const CONNECTIONS: u64 = 200;
const REQUESTS: u64 = 100;

/// Who asks whom: nobody else of the check does.
const OPENED: &str = "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"guest\",destination_workload=\"catalog\"}";
/// Who asks once, and falls silent.
const SILENT: &str =
    "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"guest\",destination_workload=\"web\"}";
const ASKED: &str = "istio_requests_total{reporter=\"waypoint\",source_workload=\"guest\",destination_service_name=\"web\",response_code=\"200\"}";
/// What it would have refused of what it was told.
const REFUSED: &str = "sum({__name__=~\"prometheus_target_scrapes_(sample_.*|exceeded_.*|cache_flush_forced)_total\"})";

/// Starts it, sends what is counted, and asks it.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    let program = bench.promtool.with_file_name("prometheus");
    if !program.exists() {
        let seen = format!("{} is not there; `make demo` installs it", program.display());
        point.assert("Prometheus scrapes the mesh", "prometheus", seen, false);
        return;
    }
    let started = start(bench, &program.display().to_string()).await;
    let Some((mut process, targets)) = point.step("Prometheus starts", started) else {
        return;
    };
    every_target_is_up(bench, point, targets).await;
    let law = "Prometheus counts what was sent";
    // Once each, so that every series is known before what is counted.
    let opened = once(bench, point, law, ("http://catalog/", OPENED)).await;
    let asked = once(bench, point, law, ("http://web/", ASKED)).await;
    if let (Some(opened), Some(asked)) = (opened, asked) {
        tcp(bench, point, opened).await;
        http(bench, point, asked).await;
        idle(bench, point).await;
    }
    nothing_is_refused(bench, point).await;
    process.kill().await;
}

/// It runs on, and so many are to be scraped.
async fn start(bench: &Bench, program: &str) -> Result<(Process, usize), Failure> {
    let run = bench.world.run_directory();
    let targets = bench.world.scraped().await;
    let each = targets
        .iter()
        .map(|(process, address)| format!("  - targets: [\"{address}\"]\n    labels: {{process: \"{process}\"}}\n"));
    let text = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n- job_name: prometheus\n  \
         static_configs: [{{targets: [\"{LISTENS}\"]}}]\n- job_name: weft\n  static_configs:\n{}",
        each.collect::<String>()
    );
    let (file, data) = (run.join("prometheus.yml"), run.join("prometheus"));
    fs::write(&file, text).map_err(|error| Failure(format!("{} cannot be written: {error}", file.display())))?;
    let flags = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--web.listen-address={LISTENS}"),
        "--log.level=warn".to_owned(),
    ];
    let words: Vec<_> = std::iter::once(program)
        .chain(flags.iter().map(String::as_str))
        .collect();
    let process = bench.world.spawn_in(PLACE, "prometheus", &words).await?;
    Ok((process, targets.len()))
}

async fn every_target_is_up(bench: &Bench, point: &mut Point, targets: usize) {
    let up = || async { number(bench, "sum(up{job=\"weft\"})").await == Some(targets as u64) };
    let pass = bench.until(PATIENCE, up).await;
    let seen = number(bench, "sum(up{job=\"weft\"})").await;
    let law = "Prometheus scrapes every ztunnel, agent, waypoint and the ca";
    point.assert(law, format!("{targets} are up"), shown(seen), pass && targets >= 6);
}

async fn tcp(bench: &Bench, point: &mut Point, before: u64) {
    let law = "Prometheus counts the connections that were made, by rate and by sum";
    let words = [
        "http://catalog/",
        "--rate",
        "20",
        "--requests",
        &CONNECTIONS.to_string(),
    ];
    let load = Load::start(&bench.world, "shop/guest", "scraped-tcp", &words).await;
    let Some(load) = point.step(law, load) else { return };
    let report = load.finish(PATIENCE).await;
    point.assert(law, "all answered", report.summary(), report.answered() == CONNECTIONS);
    grown(bench, point, (law, "source_workload", OPENED), (before, CONNECTIONS)).await;
}

async fn http(bench: &Bench, point: &mut Point, before: u64) {
    let law = "Prometheus counts the requests that were made, by rate and by sum";
    let words = ["http://web/", "--rate", "20", "--requests", &REQUESTS.to_string()];
    let load = Load::start(&bench.world, "shop/guest", "scraped-http", &words).await;
    let Some(load) = point.step(law, load) else { return };
    let report = load.finish(PATIENCE).await;
    point.assert(law, "all answered", report.summary(), report.answered() == REQUESTS);
    grown(bench, point, (law, "source_workload", ASKED), (before, REQUESTS)).await;
}

/// A counter is what it was and what was sent; its rate over two minutes, which Prometheus reckons between scrapes,
/// says about that.
async fn grown(bench: &Bench, point: &mut Point, (law, by, series): (&str, &str, &str), (before, sent): (u64, u64)) {
    let sum = format!("sum by ({by}) ({series})");
    let all = || async { number(bench, &sum).await == Some(before + sent) };
    let pass = bench.until(PATIENCE, all).await;
    let seen = shown(number(bench, &sum).await);
    point.assert(&format!("{law}: the sum"), before + sent, seen, pass);
    let rate = format!("sum by ({by}) (rate({series}[2m])) * 120");
    let seen = number(bench, &rate).await;
    let about = sent / 2..=sent * 2;
    let expected = format!("{} to {}", about.start(), about.end());
    let pass = seen.is_some_and(|seen| about.contains(&seen));
    point.assert(&format!("{law}: the rate"), expected, shown(seen), pass);
}

/// One series falls silent and leaves; another one of the same family, which is used on, loses nothing by that.
async fn idle(bench: &Bench, point: &mut Point) {
    let law = "an idle series leaves, and a live one loses nothing by it";
    let silent = once(bench, point, law, ("http://10.77.2.21:9090/", SILENT)).await;
    let opened = once(bench, point, law, ("http://catalog/", OPENED)).await;
    let (Some(_), Some(before)) = (silent, opened) else {
        return;
    };
    let mut sent = 0;
    let end = tokio::time::Instant::now() + IDLE;
    let silent = format!("sum({SILENT})");
    while number(bench, &silent).await.is_some() && tokio::time::Instant::now() < end {
        let words = ["http://catalog/", "--rate", "10", "--requests", "30"];
        let load = Load::start(&bench.world, "shop/guest", &format!("scraped-{sent}"), &words).await;
        let Some(load) = point.step(law, load) else { return };
        sent += load.finish(PATIENCE).await.answered();
    }
    let left = number(bench, &silent).await.is_none();
    let word = if left { "has left" } else { "is there" };
    point.equal(&format!("{law}: the idle one"), "has left", word);
    let all = || async { number(bench, OPENED).await == Some(before + sent) };
    let pass = bench.until(PATIENCE, all).await;
    let now = shown(number(bench, OPENED).await);
    point.assert(&format!("{law}: the live one"), before + sent, now, pass && sent > 0);
    let resets = number(bench, &format!("sum(resets({OPENED}[30m]))")).await;
    point.equal(&format!("{law}: it never fell back"), "0".to_owned(), shown(resets));
}

async fn nothing_is_refused(bench: &Bench, point: &mut Point) {
    let law = "Prometheus takes every sample that it is told";
    let lost = "sum(scrape_samples_scraped{job=\"weft\"} - scrape_samples_post_metric_relabeling)";
    point.equal(law, "0".to_owned(), shown(number(bench, lost).await));
    let scraped = number(bench, "min(scrape_samples_scraped{job=\"weft\"})").await;
    let some = scraped.is_some_and(|it| it > 0);
    point.assert(&format!("{law}: of each process"), "some", shown(scraped), some);
    let law = format!("{law}: none was a duplicate, out of order or out of bounds");
    point.equal(&law, "0".to_owned(), shown(number(bench, REFUSED).await));
}

/// Asks once and waits until that is counted: what a counter was before is only known when nothing waits for a scrape.
async fn once(bench: &Bench, point: &mut Point, law: &str, (url, series): (&str, &str)) -> Option<u64> {
    let sum = format!("sum({series})");
    let after = number(bench, &sum).await.unwrap_or(0) + 1;
    point.step(law, bench.curl("shop/guest", &[url]).await)?;
    let counted = || async { number(bench, &sum).await == Some(after) };
    let pass = bench.until(PATIENCE, counted).await;
    let seen = shown(number(bench, &sum).await);
    point.assert(&format!("{law}: {url} once"), after, seen, pass);
    pass.then_some(after)
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "no series".to_owned(), |value| value.to_string())
}

/// What it answers now, if that is one series: rounded.
async fn number(bench: &Bench, query: &str) -> Option<u64> {
    let (url, query) = (format!("http://{LISTENS}/api/v1/query"), format!("query={query}"));
    let answer = bench
        .curl(PLACE, &["-G", &url, "--data-urlencode", &query])
        .await
        .ok()?;
    let answer: Value = serde_json::from_str(&answer.text).ok()?;
    let [one] = answer.pointer("/data/result")?.as_array()?.as_slice() else {
        return None;
    };
    let value: f64 = one.pointer("/value/1")?.as_str()?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    (value >= 0.0).then_some(value.round() as u64)
}
