//! What a node does to its programs: a clock that jumps, a disk that is full.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use act::process::Failure;

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point},
    observe::Capture,
    world::run,
};

/// Jumps that a leaf's life and the CA's tolerance forgive.
const SMALL: [&str; 3] = ["+60", "-45", "+0"];
/// One that no leaf outlives.
const LARGE: &str = "+30d";
const ZTUNNEL: &str = "ztunnel-node-1";

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
    let (disk, log) = (
        bench.world.run_directory().join("full"),
        bench.world.run_directory().log(ZTUNNEL),
    );
    point.step(law, fill(&disk, &log).await);
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
    let link = fs::remove_file(&log).map_err(|error| Failure(error.to_string()));
    point.step(law, link);
    point.step(law, bench.world.restart(ZTUNNEL).await);
    watch::well_again(bench, point, &format!("{law} no more")).await;
    let disk = disk.display().to_string();
    point.step(law, run(&["umount", &disk]).await);
    watch::nothing_in_clear(capture, point, law);
}

/// A file system of 64 KiB without a free byte, in it an empty file that is the log.
async fn fill(disk: &Path, log: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure(format!("{} cannot be filled: {error}", disk.display()));
    fs::create_dir_all(disk).map_err(failed)?;
    run(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k",
        "tmpfs",
        &disk.display().to_string(),
    ])
    .await?;
    fs::write(disk.join("log"), "").map_err(failed)?;
    // It ends by finding no room, which is what it is for.
    let _ = fs::write(disk.join("ballast"), vec![0; 1 << 20]);
    let _ = fs::remove_file(log);
    symlink(disk.join("log"), log).map_err(failed)
}
