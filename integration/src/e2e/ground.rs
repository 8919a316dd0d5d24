//! Point 2, first half: what the demo promises of two ztunnels, on real pods: the wire, the addresses, coming and
//! going under load, and misspelt policies.

use std::time::Duration;

use act::process::Failure;
use tokio::time::sleep;

use super::{
    cluster::{Cluster, until},
    load::{Outcome, PodLoad},
    manifests::{SHOP, service_url},
    mesh::{self, Mark, Source, curl},
    smoke::{self, from_the_shop},
    stage::Stage,
    wire::Wire,
};
use crate::check::Point;

/// How long each state lasts under load.
pub(super) const WHILE: Duration = Duration::from_secs(4);
/// `form` for `from`: would allow everybody, if what is not known were dropped.
const MISSPELT: &str = "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: misspelt, namespace: e2e-shop}
spec:
  selector: {matchLabels: {app: far}}
  action: ALLOW
  rules:
  - form:
    - source: {principals: [cluster.local/ns/e2e-shop/sa/nobody]}
";

/// Each in turn.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    addresses(stage, point).await;
    smoke::deny(stage, point).await;
    misspelt(stage, point).await;
    smoke::rotate(stage, point).await;
    coming_and_going(stage, point).await;
}

/// nginx's own log shows each client's own address.
async fn addresses(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("whom the server sees");
    let clients = cluster.pods(SHOP, "app=client").await.unwrap_or_default();
    let law = "two clients of one account run";
    point.assert(law, "2", clients.len(), clients.len() == 2);
    for (number, client) in clients.iter().enumerate() {
        let mark = Mark::now();
        let asked = async {
            let url = service_url(cluster, SHOP, "web").await?;
            let url = format!("{url}?say=from-{number}");
            curl(cluster, SHOP, &client.name, &[&*url]).await
        };
        let law = format!("client {number} is answered, and the server sees its own address");
        let Some(answer) = point.step(&law, asked.await) else {
            continue;
        };
        point.assert(
            &law,
            format!("200 … to {}", client.address),
            answer.phrase(),
            answer.text.contains(&format!("to {}", client.address)),
        );
        let source = Source {
            namespace: SHOP,
            selector: "app=web",
        };
        let log = mesh::log(cluster, source, &mark).await.unwrap_or_default();
        let line = log
            .lines()
            .find(|line| line.contains(&format!("from-{number}")))
            .unwrap_or_default();
        let pass = line.starts_with(&*client.address);
        point.assert(
            &format!("nginx's own log shows client {number}'s own address"),
            &client.address,
            line,
            pass,
        );
    }
}

/// Refused at apply; where it gets past that, it lets nobody in.
async fn misspelt(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("a misspelt policy");
    let law = "a misspelt policy is refused at apply, and the word named";
    let words = ["apply", "--server-side", "-f", "-"];
    let Some(applied) = point.step(law, cluster.try_kubectl(&words, MISSPELT).await) else {
        return;
    };
    let refused = !applied.success() && applied.stderr.contains("form");
    point.assert(
        law,
        "refused: form",
        format!("{}{}", applied.stdout.trim(), applied.stderr.trim()),
        refused,
    );
    let past = async {
        let policies = cluster
            .list(&[
                "validatingadmissionpolicybindings",
                "-l",
                "app.kubernetes.io/managed-by=weft",
            ])
            .await?;
        for policy in &policies {
            cluster
                .kubectl(&["delete", "validatingadmissionpolicybinding", &mesh::name(policy)])
                .await?;
        }
        let mut applied = Err(Failure("not applied".into()));
        // The API server takes a moment to forget a policy.
        for _ in 0..20 {
            applied = cluster.apply(MISSPELT).await;
            if applied.is_ok() {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        applied?;
        let client = cluster.pod(SHOP, "client").await?;
        Ok((client, service_url(cluster, SHOP, "far").await?))
    };
    let law = "past that, a misspelt policy lets nobody in";
    if let Some((client, url)) = point.step(law, past.await) {
        let answer = mesh::answers(cluster, SHOP, &client.name, &[&*url], 0).await;
        point.assert(law, "no answer", answer.phrase(), answer.status == 0);
    }
    point.step("the policy is removed", cluster.delete(MISSPELT).await);
    let restored = cluster.weft(&["upgrade"], Duration::from_secs(200)).await;
    let law = "`weft upgrade` restores what was taken away";
    if let Some(restored) = point.step(law, restored) {
        point.assert(
            law,
            "exit 0",
            restored.stderr.lines().last().unwrap_or_default(),
            restored.success(),
        );
    }
}

/// The namespace leaves the mesh and comes back, a keep-alive client, one of new connections and a download under way.
async fn coming_and_going(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("the namespace leaves the mesh and comes back under load");
    let before = cluster.pods(SHOP, "app=far").await.unwrap_or_default();
    let wire = match cluster.reach().is_ours() {
        true => point.step("a capture of the link", Wire::open(stage, &[]).await),
        false => {
            stage.not_shown(
                2,
                "nothing but TLS crosses the link",
                "the nodes are not ours to look into",
            );
            None
        }
    };
    if let Some(wire) = &wire {
        marked(cluster, point, wire, "marker-inside-the-mesh", false).await;
    }
    let Some(clients) = point.step("clients under load", Clients::start(stage, "out").await) else {
        return;
    };
    sleep(WHILE).await;
    point.step("the namespace leaves the mesh", mesh::disable(cluster, SHOP).await);
    point.step("every pod is released", mesh::released(cluster, SHOP).await);
    if let Some(wire) = &wire {
        marked(cluster, point, wire, "marker-outside-the-mesh", true).await;
    }
    sleep(WHILE).await;
    for (who, outcome) in clients.stop().await {
        lossless(point, &format!("on release, {who} loses nothing"), outcome);
    }
    let Some(clients) = point.step("clients under load", Clients::start(stage, "in").await) else {
        return;
    };
    sleep(WHILE).await;
    point.step("the namespace is in the mesh again", mesh::enable(cluster, SHOP).await);
    point.step("every pod is captured", mesh::captured(cluster, SHOP).await);
    sleep(WHILE).await;
    for (who, outcome) in clients.stop().await {
        lossless(point, &format!("on capture (PERMISSIVE), {who} loses nothing"), outcome);
    }
    let after = cluster.pods(SHOP, "app=far").await.unwrap_or_default();
    let same = !before.is_empty()
        && before.iter().all(|was| {
            after
                .iter()
                .any(|pod| pod.uid == was.uid && pod.restarts == was.restarts)
        });
    point.assert(
        "the server was never restarted",
        "same",
        if same { "same" } else { "another" },
        same,
    );
}

/// Sends a marker to the far server and back, and looks for it on the wire.
async fn marked(cluster: &Cluster, point: &mut Point, wire: &Wire, marker: &str, wanted: bool) {
    wire.look_for(marker);
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let url = format!("{}{marker}", service_url(cluster, SHOP, "far").await?);
        // Longer than one answer: a pod that was just released may still have a tunnel's connection for it.
        Ok(mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await)
    };
    let law = format!("{marker} is asked for and answered");
    if let Some(answer) = point.step(&law, asked.await) {
        point.assert(&law, "200", answer.phrase(), answer.status == 200);
    }
    let saw = match wanted {
        true => until(Duration::from_secs(5), || wire.saw(marker)).await,
        false => wire.saw(marker).await,
    };
    let word = |saw| if saw { "seen" } else { "not seen" };
    point.assert(
        &format!("on the link, {marker}"),
        word(wanted),
        word(saw),
        saw == wanted,
    );
    if !wanted {
        let bytes = wire.payload(15008);
        let seen = format!("{bytes} bytes, {} streams not TLS", wire.not_tls(15008));
        point.assert(
            "what crosses on 15008 is TLS",
            "some bytes, 0 streams not TLS",
            seen,
            bytes > 0 && wire.not_tls(15008) == 0,
        );
    }
}

/// The clients of one turn.
pub(super) struct Clients(Vec<(&'static str, PodLoad)>);

impl Clients {
    /// Who opens a connection for each request.
    pub(super) const NEW: &'static str = "a client of new connections";

    pub(super) async fn start(stage: &Stage, turn: &str) -> Result<Self, Failure> {
        let url = service_url(&stage.cluster, SHOP, "far").await?;
        let slow = format!("{url}slowly");
        let mut all = Vec::new();
        for (who, name, words) in [
            ("a keep-alive client", "kept", vec![&*url, "--clients", "2"]),
            (Self::NEW, "new", vec![&*url, "--rate", "50"]),
            ("an open download", "download", vec![&*slow, "--mode", "download"]),
        ] {
            let name = format!("load-{turn}-{name}");
            let load = PodLoad::start_with(&stage.cluster, from_the_shop(stage), &name, &words).await?;
            all.push((who, load));
        }
        Ok(Self(all))
    }

    pub(super) async fn stop(self) -> Vec<(&'static str, Result<Outcome, Failure>)> {
        let mut all = Vec::new();
        for (who, load) in self.0 {
            all.push((who, load.stop().await));
        }
        all
    }
}

/// Nothing failed and no connection was closed in between; whatever its rate.
pub(super) fn lossless(point: &mut Point, law: &str, outcome: Result<Outcome, Failure>) {
    let Some(outcome) = point.step(law, outcome) else {
        return;
    };
    let report = &outcome.report;
    let lives = report.answered() + report.downloaded() > 0;
    let pass = report.is_whole() && report.failed() == 0 && report.closed() == 0 && lives;
    let seen = format!("{}, {} bytes downloaded", report.summary(), report.downloaded());
    point.assert(law, "0 failed", seen, pass);
}
