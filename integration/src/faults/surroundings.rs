//! What a node does to its programs: a clock that jumps, a disk that is full.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use act::process::Failure;

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point},
    observe::{Capture, Event, admin, samples},
    world::run,
};

/// Jumps that a leaf's life and the CA's tolerance forgive.
const SMALL: [&str; 3] = ["+60", "-45", "+0"];
/// One that no leaf outlives.
const LARGE: &str = "+30d";
const ZTUNNEL: &str = "ztunnel-node-1";
/// A disk that is full from the start, and one that fills up under load within seconds: KiB of it, and what lies on it.
const FULL: (u32, usize) = (64, 1 << 20);
const FILLING: (u32, usize) = (512, 384 << 10);
/// How long it may take to fill up, or to be written to again.
const FILLS: Duration = Duration::from_secs(90);
/// So many lines more are to be lost while it stays full.
const MORE: u64 = 60;

/// The wall clock of one ztunnel jumps: `libfaketime` stands between it and the kernel, so that no other program of
/// the machine sees it. Its monotonic clock goes on.
pub(super) async fn clock(bench: &Bench, capture: &Capture, point: &mut Point, file: &Path) {
    let law = "node-1's ztunnel sees the wall clock jump";
    let Some(load) = point.step(law, Watch::start(bench, "clock").await) else {
        return;
    };
    for jump in SMALL {
        point.step(law, set(file, jump));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    load.nothing_is_lost(point, &format!("{law} by {} seconds", SMALL.join(", then ")))
        .await;
    let kept = Watch::kept(bench, "clock-on").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    point.step(law, set(file, LARGE));
    // Whoever is let in on a leaf that is over would be let in for ever.
    let refused = || async {
        let url = format!("http://catalog/?say={}", watch::MARKER);
        let answer = bench.curl("shop/client-a", &["--max-time", "15", &url]).await;
        answer.is_ok_and(|answer| answer.refused() || answer.status >= 500)
    };
    let seen = bench.until(watch::WELL, refused).await;
    point.assert(
        &format!("{law} by {LARGE}: new connections are refused, for its leaves are over"),
        "refused",
        if seen { "refused" } else { "answered" },
        seen,
    );
    point.step(law, set(file, "+0"));
    watch::well_again(bench, point, &format!("{law} and back")).await;
    if let Some(kept) = point.step(law, kept) {
        let report = kept.stop().await;
        let pass = report.failed() == 0 && report.closed() == 0 && report.answered() > 0;
        let law = format!("{law} by {LARGE} and back: connections that stood before go on");
        point.assert(&law, "0 failed", report.summary(), pass);
    }
    watch::nothing_in_clear(capture, point, law);
}

fn set(file: &Path, offset: &str) -> Result<(), Failure> {
    let new = file.with_extension("new");
    fs::write(&new, format!("{offset}\n"))
        .and_then(|()| fs::rename(&new, file))
        .map_err(|error| Failure(format!("{} cannot be written: {error}", file.display())))
}

/// The disk that a ztunnel's log is on is full from its start.
pub(super) async fn full_disk(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "the disk for a ztunnel's log is full";
    let disk = bench.world.run_directory().join("full");
    point.step(law, lay(bench, &disk, FULL).await);
    point.step(law, bench.world.restart(ZTUNNEL).await);
    watch::well_again(bench, point, &format!("{law}: it starts and serves")).await;
    if let Some(load) = point.step(law, Watch::start(bench, "full").await) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        load.nothing_is_lost(point, law).await;
    }
    let size = fs::metadata(disk.join("log")).map_or(0, |it| it.len());
    point.assert(
        &format!("{law}: it is, indeed"),
        "not a byte of a log",
        format!("{size} bytes"),
        size == 0,
    );
    take_away(bench, point, law, &disk).await;
    watch::nothing_in_clear(capture, point, law);
}

/// The disk fills up while the ztunnel serves, stays full for a while, and is given room again.
pub(super) async fn filling_disk(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "the disk for a ztunnel's log fills up meanwhile";
    let disk = bench.world.run_directory().join("filling");
    point.step(law, lay(bench, &disk, FILLING).await);
    point.step(law, bench.world.restart(ZTUNNEL).await);
    watch::well_again(bench, point, &format!("{law}: it starts with room")).await;
    let Some(load) = point.step(law, Watch::start(bench, "filling").await) else {
        return;
    };
    let more_than = |lines: u64| bench.until(FILLS, move || async move { dropped(bench).await > lines });
    let first = more_than(0).await;
    let (at_first, size) = (dropped(bench).await, length(&disk));
    // Judged while it is full, and with lines of their own that are lost.
    judged_as_before(bench, point, law).await;
    let on = more_than(at_first + MORE).await;
    let (lost, after) = (dropped(bench).await, length(&disk));
    point.assert(
        &format!("{law}: it is full, and each line that is lost is counted"),
        format!("{MORE} and more, and no more bytes of a log"),
        format!("{lost} lines; {size} bytes, later {after}"),
        first && on && after == size,
    );
    published(bench, point, law, lost).await;
    let log = bench.log(ZTUNNEL);
    point.step(
        law,
        fs::remove_file(disk.join("ballast")).map_err(|error| Failure(error.to_string())),
    );
    writes_again(bench, point, law, log).await;
    let [_, fresh] = load.nothing_is_lost(point, law).await;
    let settled = || async { told(&disk).0 + dropped(bench).await >= fresh.answered() };
    let all = bench.until(watch::WELL, settled).await;
    let ((lines, torn), lost) = (told(&disk), dropped(bench).await);
    point.assert(
        &format!("{law}: each new connection is told of or counted, and one line at most is torn"),
        format!("{} in all, 1 torn", fresh.answered()),
        format!("{lines} told, {lost} counted, {torn} torn"),
        all && torn <= 1,
    );
    take_away(bench, point, law, &disk).await;
    watch::nothing_in_clear(capture, point, law);
}

/// Who is refused is refused, and who is let in is let in.
async fn judged_as_before(bench: &Bench, point: &mut Point, law: &str) {
    for (pod, wanted) in [("shop/guest", "refused"), ("shop/client-a", "answered")] {
        let Some(answer) = point.step(law, bench.curl(pod, &["http://orders/"]).await) else {
            continue;
        };
        let seen = if answer.refused() { "refused" } else { "answered" };
        point.equal(&format!("{law}: {pod} is judged as before"), wanted, seen);
    }
}

/// The metric, which is told every few seconds, says what the admin socket said, or more by now.
async fn published(bench: &Bench, point: &mut Point, law: &str, lost: u64) {
    let counted = || async {
        let page = admin(&bench.world.run_directory().socket(ZTUNNEL), "/metrics").await;
        let all = samples(&page.unwrap_or_default());
        let metric = all.iter().find(|it| it.name == "weft_log_lines_dropped_total");
        metric.map_or(0.0, |it| it.value)
    };
    #[allow(clippy::cast_precision_loss, reason = "lines are far fewer than 2^52")]
    let lost = lost as f64;
    let pass = bench.until(watch::WELL, || async { counted().await >= lost }).await;
    let law = format!("{law}: weft_log_lines_dropped_total counts them");
    point.assert(&law, format!("{lost} and more"), counted().await, pass);
}

/// Once there is room, what happens is told again.
async fn writes_again(bench: &Bench, point: &mut Point, law: &str, mut log: crate::observe::Log) {
    let url = format!("http://catalog/?say={}", watch::MARKER);
    point.step(law, bench.curl("shop/client-a", &[&url]).await);
    let mut told = false;
    for _ in 0..FILLS.as_secs() * 10 {
        let events = log.events("access");
        told |= events.iter().any(|event| event.is("src.workload", "client-a"));
        if told {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = if told { "lines" } else { "none" };
    point.equal(&format!("{law}: with room again lines come again"), "lines", seen);
}

/// Log lines that a ztunnel has dropped, as it says itself.
async fn dropped(bench: &Bench) -> u64 {
    let status = bench.admin(ZTUNNEL, "/status").await.unwrap_or_default();
    status["dropped_log_lines"].as_u64().unwrap_or(0)
}

fn length(disk: &Path) -> u64 {
    fs::metadata(disk.join("log")).map_or(0, |it| it.len())
}

/// Lines of connections on that disk, and lines that are none.
fn told(disk: &Path) -> (u64, usize) {
    let text = fs::read_to_string(disk.join("log")).unwrap_or_default();
    let events = text.lines().filter_map(Event::parse);
    let connections = events.filter(|event| event.target == "access").count() as u64;
    (
        connections,
        text.lines().filter(|line| Event::parse(line).is_none()).count(),
    )
}

/// A file system of so many KiB, in it an empty file that is the log, and so many bytes of ballast as far as they fit.
async fn lay(bench: &Bench, disk: &Path, (size, ballast): (u32, usize)) -> Result<(), Failure> {
    let log = bench.world.run_directory().log(ZTUNNEL);
    let failed = |error: std::io::Error| Failure(format!("{} cannot be filled: {error}", disk.display()));
    fs::create_dir_all(disk).map_err(failed)?;
    let (size, place) = (format!("size={size}k"), disk.display().to_string());
    run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &place]).await?;
    fs::write(disk.join("log"), "").map_err(failed)?;
    // Where it ends by finding no room, that is what it is for.
    let _ = fs::write(disk.join("ballast"), vec![0; ballast]);
    let _ = fs::remove_file(&log);
    symlink(disk.join("log"), log).map_err(failed)
}

/// The log is where it was before, and the disk is gone.
async fn take_away(bench: &Bench, point: &mut Point, law: &str, disk: &Path) {
    let link = fs::remove_file(bench.world.run_directory().log(ZTUNNEL));
    point.step(law, link.map_err(|error| Failure(error.to_string())));
    point.step(law, bench.world.restart(ZTUNNEL).await);
    watch::well_again(bench, point, &format!("{law} no more")).await;
    point.step(law, run(&["umount", &disk.display().to_string()]).await);
}
