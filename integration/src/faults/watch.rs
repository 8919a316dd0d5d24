//! What every fault is watched by: load that counts, memory and descriptors, and what crossed the link.

use std::time::Duration;

use act::process::Failure;

use crate::{
    check::{Bench, Held, Point, held},
    load::{Load, Report},
    observe::Capture,
};

/// Both ends' proxies.
pub(super) const PROXIES: [&str; 2] = ["ztunnel-node-1", "ztunnel-node-2"];
/// What every request of the load says: it must not be seen on the link.
pub(super) const MARKER: &str = "secret-of-the-load";
/// How long everything may take to be well again.
pub(super) const WELL: Duration = Duration::from_secs(40);
/// Memory that a proxy may have kept after a fault.
const KEPT: u64 = 16 * 1024 * 1024;

/// Requests under way while something goes wrong.
pub(super) struct Watch {
    kept: Load,
    fresh: Load,
}

impl Watch {
    /// Two kept connections and twenty new ones a second, from pods of node-1 to one of node-2.
    pub(super) async fn start(bench: &Bench, name: &str) -> Result<Self, Failure> {
        let url = format!("http://catalog/?say={MARKER}");
        let fresh = format!("{name}-new");
        Ok(Self {
            kept: Self::kept(bench, name).await?,
            fresh: Load::start(&bench.world, "shop/client-b", &fresh, &[&url, "--rate", "20"]).await?,
        })
    }

    /// The kept connections alone.
    pub(super) async fn kept(bench: &Bench, name: &str) -> Result<Load, Failure> {
        let url = format!("http://catalog/?say={MARKER}");
        let name = format!("{name}-kept");
        Load::start(&bench.world, "shop/client-a", &name, &[&url, "--clients", "2"]).await
    }

    /// Ends it; what became of its requests on the kept connection, and on new ones.
    pub(super) async fn stop(self) -> [Report; 2] {
        let (kept, fresh) = tokio::join!(self.kept.stop(), self.fresh.stop());
        [kept, fresh]
    }

    /// Ends it and asserts that nothing failed, and that no kept connection was closed. Answers as [`Self::stop`].
    pub(super) async fn nothing_is_lost(self, point: &mut Point, law: &str) -> [Report; 2] {
        let reports = self.stop().await;
        for (what, report) in ["kept connections", "new connections"].into_iter().zip(&reports) {
            let pass = report.failed() == 0 && report.closed() == 0 && report.answered() > 0;
            point.assert(&format!("{law}: {what}"), "0 failed", report.summary(), pass);
        }
        reports
    }
}

/// Waits until a pod is answered again.
pub(super) async fn well_again(bench: &Bench, point: &mut Point, law: &str) {
    let begun = tokio::time::Instant::now();
    let answered = || async {
        let answer = bench
            .curl("shop/client-a", &["--max-time", "5", "http://catalog/"])
            .await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let well = bench.until(WELL, answered).await;
    let seen = if well {
        format!("after {:.1} s", begun.elapsed().as_secs_f64())
    } else {
        "never".into()
    };
    point.assert(law, format!("answered within {} s", WELL.as_secs()), seen, well);
}

/// Asserts that nothing of the load crossed the link as it is.
pub(super) fn nothing_in_clear(capture: &Capture, point: &mut Point, law: &str) {
    let seen = capture.seen();
    let clear = seen.markers.get(MARKER);
    let told = clear.map_or_else(|| "0 times".to_owned(), |ports| format!("on ports {ports:?}"));
    point.assert(
        &format!("{law}: nothing crosses the link in the clear"),
        "0 times",
        told,
        clear.is_none(),
    );
}

/// Memory and descriptors of both proxies now.
pub(super) async fn both(bench: &Bench) -> Result<[Held; 2], Failure> {
    Ok([held(bench, PROXIES[0]).await?, held(bench, PROXIES[1]).await?])
}

/// Asserts that memory and descriptors come back to about what they were.
pub(super) async fn given_back(bench: &Bench, point: &mut Point, law: &str, before: &[Held; 2]) {
    let back = || async {
        both(bench).await.is_ok_and(|after| {
            after.iter().zip(before).all(|(after, before)| {
                after.memory <= before.memory + KEPT && after.descriptors <= before.descriptors + 8
            })
        })
    };
    let pass = bench.until(WELL, back).await;
    let phrase = |held: &[Held; 2]| {
        let one = |it: &Held| {
            format!(
                "{:.1} MiB and {} descriptors",
                it.memory as f64 / 1_048_576.0,
                it.descriptors
            )
        };
        held.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let seen = both(bench)
        .await
        .map_or_else(|failure| failure.0, |after| phrase(&after));
    let law = format!("{law}: memory and descriptors come back");
    point.assert(&law, format!("about {}", phrase(before)), seen, pass);
}
