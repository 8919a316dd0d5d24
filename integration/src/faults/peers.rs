//! Peers that fall silent, packets that vanish, readers that take their time.

use std::time::Duration;

use act::process::Failure;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point},
    observe::Capture,
    world::Finished,
};

/// Clients that dial a silent peer at once.
const CLIENTS: usize = 50;
/// The deadline of dial, handshake and CONNECT together.
const DEADLINE: f64 = 10.0;
/// How late the last may be told, on a machine that does other things too.
const SLACK: f64 = 8.0;
/// How long packets vanish.
const DARK: Duration = Duration::from_secs(5);
/// Downloads that nobody hurries to read, and how long they are held.
const SLOW: usize = 20;
const SLOW_FOR: Duration = Duration::from_secs(8);

/// The other node's proxy stands still: whoever dials it fails at the one deadline, all together.
pub(super) async fn silent(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "the other node's ztunnel falls silent (SIGSTOP)";
    let Some(before) = point.step(law, watch::both(bench).await) else {
        return;
    };
    point.step(law, signal(bench, "ztunnel-node-2", Signal::STOP).await);
    let begun = tokio::time::Instant::now();
    let asked = (0..CLIENTS).map(|_| async {
        let url = format!("http://catalog/?say={}", watch::MARKER);
        let answer = bench.curl("shop/client-a", &["--max-time", "25", &url]).await;
        (answer, begun.elapsed().as_secs_f64())
    });
    let told = join_all(asked).await;
    let first = told.iter().map(|(_, after)| *after).fold(f64::MAX, f64::min);
    let last = told.iter().map(|(_, after)| *after).fold(0.0, f64::max);
    let answered = told
        .iter()
        .filter(|(answer, _)| answer.as_ref().is_ok_and(|it| it.status == 200));
    let answered = answered.count();
    point.assert(
        &format!("{law}: {CLIENTS} clients fail at one deadline"),
        format!(
            "0 answered, all told between {DEADLINE:.0} and {:.0} s",
            DEADLINE + SLACK
        ),
        format!("{answered} answered, the first told after {first:.1} s, the last after {last:.1} s"),
        answered == 0 && first >= DEADLINE - 1.0 && last <= DEADLINE + SLACK,
    );
    point.step(law, signal(bench, "ztunnel-node-2", Signal::CONT).await);
    watch::well_again(bench, point, &format!("{law}: it speaks again")).await;
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}

/// Every packet of HBONE between the nodes is dropped.
pub(super) async fn black_hole(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "HBONE's packets vanish between the nodes for 5 s";
    let Some(load) = point.step(law, Watch::start(bench, "dark").await) else {
        return;
    };
    let rules = "table inet hole { chain dark { type filter hook forward priority -300; \
                 tcp dport 15008 drop; tcp sport 15008 drop; }; }";
    point.step(law, bench.run("node-1", &["nft", rules]).await);
    tokio::time::sleep(DARK).await;
    point.step(law, bench.run("node-1", &["nft", "delete table inet hole"]).await);
    watch::well_again(bench, point, &format!("{law}: they come again")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Shorter than every deadline: what waits is carried, late.
    load.nothing_is_lost(point, law).await;
    watch::nothing_in_clear(capture, point, law);
}

/// Downloads read at a trickle, while others go on.
pub(super) async fn slow_reader(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "20 readers that take 10 kB a second of 40 MB";
    let (Some(before), Some(load)) = (
        point.step(law, watch::both(bench).await),
        point.step(law, Watch::start(bench, "slow").await),
    ) else {
        return;
    };
    let time = SLOW_FOR.as_secs().to_string();
    let words = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        "--limit-rate",
        "10k",
        "--max-time",
        &time,
        "http://catalog/bulk",
    ];
    let reading = join_all((0..SLOW).map(|_| bench.run("shop/client-b", &words)));
    let looked = async {
        tokio::time::sleep(SLOW_FOR.mul_f64(0.75)).await;
        watch::both(bench).await
    };
    let (read, during) = tokio::join!(reading, looked);
    let bytes = |read: Result<Finished, Failure>| read.ok()?.stdout.trim().parse::<u64>().ok();
    let read: Vec<u64> = read.into_iter().filter_map(bytes).filter(|bytes| *bytes > 0).collect();
    point.assert(
        &format!("{law}: each gets what it takes, and no more"),
        format!("{SLOW} of them, below 1 MB each"),
        format!(
            "{} of them, at most {} bytes",
            read.len(),
            read.iter().max().unwrap_or(&0)
        ),
        read.len() == SLOW && read.iter().all(|bytes| *bytes < 1_000_000),
    );
    if let Some(during) = point.step(law, during) {
        let grown = during
            .iter()
            .zip(&before)
            .map(|(during, before)| during.memory.saturating_sub(before.memory));
        let most = grown.max().unwrap_or(0) / 1024 / 1024;
        // One pod's cap of buffered bytes, and room for what the allocator keeps.
        let law = format!("{law}: a proxy buffers no more than the pod's cap");
        point.assert(&law, "at most 48 MiB more", format!("{most} MiB more"), most <= 48);
    }
    load.nothing_is_lost(point, law).await;
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}

async fn signal(bench: &Bench, process: &str, signal: Signal) -> Result<(), Failure> {
    let pid = bench.world.pid(process).await?;
    let pid = Pid::from_raw(pid.cast_signed()).ok_or_else(|| Failure(format!("{process} has no process id")))?;
    kill_process(pid, signal).map_err(|error| Failure(format!("{process} cannot be signalled: {error}")))
}
