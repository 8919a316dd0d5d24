//! Two hundred policies that change each second while very many connections are open, and one change that denies some
//! of them.

use std::{fs, time::Duration};

use act::process::Failure;

use super::watch;
use crate::{
    check::{Bench, Point, own_program, policy_churn},
    load::Load,
    observe::{Capture, Event, Log, admin, samples},
    world::Process,
};

/// Who holds connections open, and how many: those that stay, and those that a change will deny.
const STAY: (&str, usize) = ("shop/client-b", 9_000);
const GO: (&str, usize) = ("shop/guest", 1_000);
/// Whom the last change denies.
const DENIED: &str = "cluster.local/ns/shop/sa/guest";
const SERVER: &str = "ztunnel-node-2";
const PLACE: &str = "10.77.2.40:7000";
const POD: &str = "65-crowd.yaml";
const DENIAL: &str = "71-denial.yaml";
const CROWD: &str = "  selector: {matchLabels: {app: crowd}}\n";
/// Policies of the whole namespace, so that each change concerns every connection.
const EVERYBODY: &str = "";
/// How long the connections may take to be made, on a machine that does other things, too.
const COMING: Duration = Duration::from_secs(180);
/// How long those that are denied may take to be cut, and the rest to be asked once more.
const ENDING: Duration = Duration::from_secs(90);
/// Milliseconds that the slowest answer may take: far less than any deadline of ours, far more than it needs.
const SLOWEST: u64 = 5_000;
/// Memory that one connection may cost one proxy at most, all things counted.
const EACH: u64 = 24 * 1024;

/// Connections of one pod.
struct Held {
    process: Process,
    log: std::path::PathBuf,
}

/// Opens them, changes policies, asks for new connections meanwhile, denies some, and tells what became of each.
pub(super) async fn check(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "10,000 connections are open and 200 policies change each second";
    if point.step(law, server(bench).await).is_none() {
        return;
    }
    let before = point.step(law, watch::both(bench).await);
    let (stay, go) = tokio::join!(Held::open(bench, STAY), Held::open(bench, GO));
    let (Some(mut stay), Some(mut go), Some(before)) = (point.step(law, stay), point.step(law, go), before) else {
        return;
    };
    let url = format!("http://catalog/?say={}", watch::MARKER);
    let fresh = Load::start(&bench.world, "shop/client-a", "crowd-new", &[&url, "--rate", "50"]).await;
    policy_churn::churn(bench, point, law, EVERYBODY).await;
    if let Some(fresh) = point.step(law, fresh) {
        let report = fresh.stop().await;
        let seen = format!("{}, the slowest after {} ms", report.summary(), report.slowest());
        let pass = report.failed() == 0 && report.answered() > 100 && report.slowest() <= SLOWEST;
        let expected = format!("0 failed, the slowest within {SLOWEST} ms");
        point.assert(&format!("{law}: new ones go on"), expected, seen, pass);
    }
    if let Some(during) = point.step(law, watch::both(bench).await) {
        let grown = |(during, before): (&crate::check::Held, &crate::check::Held)| {
            during.memory.saturating_sub(before.memory) / (STAY.1 + GO.1) as u64
        };
        let most = during.iter().zip(&before).map(grown).max().unwrap_or(0);
        let law = format!("{law}: a proxy's memory for each is bounded");
        point.assert(
            &law,
            format!("at most {EACH} bytes"),
            format!("{most} bytes"),
            most <= EACH,
        );
    }
    denied(bench, point, &mut go).await;
    stay.all_answer(bench, point, law).await;
    point.step(law, bench.remove(policy_churn::FILE));
    point.step(law, bench.remove(DENIAL));
    point.step(law, bench.remove(POD));
    let gone = || async { !bench.world.listens("shop/crowd", 7000).await };
    bench.until(watch::WELL, gone).await;
    watch::nothing_in_clear(capture, point, law);
}

/// A pod that echoes, on node-2.
async fn server(bench: &Bench) -> Result<(), Failure> {
    let program = own_program()?;
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: crowd\n  namespace: shop\n  labels: {{app: crowd}}\n  \
         uid: 0b000000-0000-4000-8000-000000000140\nspec:\n  nodeName: node-2\n  serviceAccountName: catalog\n  \
         containers:\n  - name: echo\n    command: [{program}, echo]\n    ports: [{{name: echo, containerPort: 7000}}]\n\
         status: {{podIP: 10.77.2.40, phase: Running}}\n"
    );
    bench.write(POD, &pod)?;
    let there = || async { bench.world.listens("shop/crowd", 7000).await };
    match bench.until(watch::WELL, there).await {
        true => Ok(()),
        false => Err(Failure("the pod that echoes does not listen".into())),
    }
}

/// One change denies the guest's connections: all of them are cut, and nobody else's, as log and metrics tell.
async fn denied(bench: &Bench, point: &mut Point, go: &mut Held) {
    let law = "one change denies 1,000 of 10,000 open connections";
    let (cut_before, mut log) = (point.step(law, cut(bench).await), bench.log(SERVER));
    let denial = policy_churn::policy("crowd-denies", DENIED, CROWD);
    point.step(law, bench.write(DENIAL, &denial));
    let Some(cut_before) = cut_before else { return };
    let all = || async { cut(bench).await.is_ok_and(|now| now >= cut_before + GO.1) };
    bench.until(ENDING, all).await;
    let counted = cut(bench).await.map_or(0, |now| now - cut_before);
    point.equal(&format!("{law}: so many are counted as cut"), GO.1, counted);
    let (of_them, of_others) = told(bench, &mut log).await;
    let seen = format!("{of_them} of the guest's, {of_others} of others");
    point.assert(
        &format!("{law}: the log names each, its policy, and nobody else"),
        format!("{} of the guest's, 0 of others", GO.1),
        seen,
        of_them == GO.1 && of_others == 0,
    );
    let answered = go.ask(bench).await;
    point.assert(
        &format!("{law}: none of them is answered"),
        "0",
        answered.map_or_else(|| "not told".to_owned(), |it| it.to_string()),
        answered == Some(0),
    );
}

/// Lines of connections that were cut: those of the guest's by this policy, and all others.
async fn told(bench: &Bench, log: &mut Log) -> (usize, usize) {
    let end = tokio::time::Instant::now() + watch::WELL;
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < GO.1 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen.extend(
            log.events("access")
                .into_iter()
                .filter(|event| event.is("outcome", "cut")),
        );
    }
    bench.tell("what was cut is told");
    let by_it = |event: &&Event| {
        event.field("src.identity").ends_with(DENIED) && event.field("policy").contains("shop/crowd-denies")
    };
    let of_them = seen.iter().filter(by_it).count();
    (of_them, seen.len() - of_them)
}

/// Connections that the server's ztunnel has cut.
async fn cut(bench: &Bench) -> Result<usize, Failure> {
    let page = admin(&bench.world.run_directory().socket(SERVER), "/metrics").await?;
    let of_cut = samples(&page).into_iter().filter(|sample| {
        sample.name == "weft_connections_ended_total"
            && sample.label("outcome") == "cut"
            && sample.label("reporter") == "destination"
    });
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(of_cut.map(|sample| sample.value).sum::<f64>() as usize)
}

impl Held {
    /// Opens so many, each of which has echoed once.
    async fn open(bench: &Bench, (pod, count): (&str, usize)) -> Result<Self, Failure> {
        let (own, asked) = (own_program()?, count.to_string());
        let name = format!("crowd-{}", pod.replace('/', "."));
        let words = [&*own, "hold", PLACE, "--echo", "--count", &asked];
        let process = bench.world.spawn_in(pod, &name, &words).await?;
        let held = Self {
            process,
            log: bench.world.run_directory().log(&name),
        };
        let there = || async { held.number("connected").is_some() };
        bench.until(COMING, there).await;
        match held.number("connected") {
            Some(connected) if connected == count => Ok(held),
            other => Err(Failure(format!(
                "{} of {count} connections of {pod} echo",
                other.unwrap_or(0)
            ))),
        }
    }

    /// Asks each a last time: how many answer.
    async fn ask(&mut self, bench: &Bench) -> Option<usize> {
        self.process.terminate();
        bench
            .until(ENDING, || async { self.number("answered").is_some() })
            .await;
        self.number("answered")
    }

    async fn all_answer(&mut self, bench: &Bench, point: &mut Point, law: &str) {
        let answered = self.ask(bench).await.unwrap_or(0);
        let slowest = self.number("slowest").unwrap_or(usize::MAX);
        point.assert(
            &format!("{law}: open ones that nothing denies are answered, all the time"),
            format!("{} of them, the slowest within {SLOWEST} ms", STAY.1),
            format!("{answered} of them, the slowest after {slowest} ms"),
            answered == STAY.1 && slowest as u64 <= SLOWEST,
        );
    }

    fn number(&self, word: &str) -> Option<usize> {
        let text = fs::read_to_string(&self.log).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(word))?;
        line.trim().parse().ok()
    }
}
