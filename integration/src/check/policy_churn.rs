//! Point 4, too: two hundred policies that change each second, under load, and one that matters after them.

use std::{fmt::Write as _, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Bench, Point};
use crate::load::Load;

/// The file the policies are written to, again and again.
pub(crate) const FILE: &str = "70-churn.yaml";
/// Policies in it, each of them changed at every beat.
const POLICIES: usize = 20;
const BEAT: Duration = Duration::from_millis(100);
/// For ten seconds.
const BEATS: usize = 100;
const CATALOG: &str = "  selector: {matchLabels: {app: catalog}}\n";
const CLIENT: &str = "cluster.local/ns/shop/sa/client";

/// Load on kept and on new connections, while policies change that deny it nothing; then one that denies it all.
pub(crate) async fn check(bench: &Bench, point: &mut Point) {
    let kept = ["http://catalog/", "--clients", "4", "--pause", "5ms"];
    let fresh = ["http://catalog/", "--rate", "50"];
    let kept = Load::start(&bench.world, "shop/client-a", "churn-kept", &kept).await;
    let fresh = Load::start(&bench.world, "shop/client-b", "churn-new", &fresh).await;
    let (Some(kept), Some(fresh)) = (
        point.step("kept connections are under load", kept),
        point.step("new connections are under load", fresh),
    ) else {
        return;
    };
    let law = "200 policies change each second";
    churn(bench, point, law, CATALOG).await;
    let (kept, fresh) = (kept.stop().await, fresh.stop().await);
    for (what, report) in [("kept", kept), ("new", fresh)] {
        let pass = report.failed() == 0 && report.closed() == 0 && report.answered() > 100;
        point.assert(
            &format!("{law}: none that they do not name is failed ({what} connections)"),
            "0 failed",
            report.summary(),
            pass,
        );
    }
    let denies = policy("churn-last", CLIENT, CATALOG);
    point.step("a policy that names the client", bench.write(FILE, &denies));
    let refused = || async {
        let answer = bench.curl("shop/client-a", &["http://catalog/"]).await;
        answer.is_ok_and(|answer| answer.refused())
    };
    let counts = bench.until(Duration::from_secs(2), refused).await;
    point.assert("the change after them counts", "refused within 2 s", counts, counts);
    point.step("the policies are removed", bench.remove(FILE));
    let answered = || async {
        let answer = bench.curl("shop/client-a", &["http://catalog/"]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let back = bench.until(Duration::from_secs(5), answered).await;
    point.assert("without them the client is let in", "within 5 s", back, back);
}

/// Ten seconds of changes, of policies of whatever is selected, none of which denies anybody.
pub(crate) async fn churn(bench: &Bench, point: &mut Point, law: &str, selector: &str) {
    let before = version(bench).await;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for beat in 0..BEATS {
        beats.tick().await;
        if point.step(law, bench.write(FILE, &of_nobody(beat, selector))).is_none() {
            break;
        }
    }
    let changes = version(bench).await.saturating_sub(before);
    point.assert(
        &format!("{law}: the server's ztunnel takes them as they come, as batches"),
        format!("{} of {BEATS} at the least", BEATS / 2),
        changes,
        changes >= BEATS as u64 / 2,
    );
}

/// How many snapshots the server's ztunnel has had.
async fn version(bench: &Bench) -> u64 {
    let status = bench.admin("ztunnel-node-2", "/status").await.unwrap_or_default();
    status
        .pointer("/snapshot/version")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0)
}

/// Policies of this beat: each names somebody that nobody is.
fn of_nobody(beat: usize, selector: &str) -> String {
    (0..POLICIES).fold(String::new(), |mut text, index| {
        let nobody = format!("cluster.local/ns/shop/sa/nobody-{beat}");
        let _ = write!(text, "{}", policy(&format!("churn-{index}"), &nobody, selector));
        text
    })
}

/// A policy of the namespace `shop`, of what is selected, that denies one principal.
pub(crate) fn policy(name: &str, principal: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n{selector}  action: DENY\n  rules:\n  - from:\n    \
         - source: {{principals: [{principal}]}}\n"
    )
}
