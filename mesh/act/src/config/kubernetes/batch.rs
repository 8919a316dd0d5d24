//! News into batches: everything that comes within a moment becomes one snapshot.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use super::{gather::Gather, watch::Told};
use crate::config::Feed;

/// Quiet that ends a batch.
const QUIET: Duration = Duration::from_millis(5);
/// Longest wait for quiet.
const LONGEST: Duration = Duration::from_millis(30);
/// As long as nothing is decided yet, larger batches are cheaper and nobody waits for smaller ones.
const LONGEST_BEFORE_COMPLETE: Duration = Duration::from_millis(500);
/// Most news of a batch.
const MOST: usize = 4096;
/// Between looks whether there is still a reader.
const LOOK: Duration = Duration::from_secs(1);
/// After which an incomplete first list is told, again and again.
const SLOW: Duration = Duration::from_secs(15);

/// Feeds batches until nobody reads or nobody tells.
pub(super) async fn run(mut feed: Feed, mut gather: Gather, mut news: mpsc::Receiver<Told>) {
    let began = Instant::now();
    let mut told_slow = began;
    while feed.has_readers() {
        if !gather.is_complete() && told_slow.elapsed() >= SLOW {
            told_slow = Instant::now();
            tracing::warn!(awaited = ?gather.awaited(), "the first lists of the API server are not complete yet");
        }
        let first = match tokio::time::timeout(LOOK, news.recv()).await {
            Err(_) => continue,
            Ok(None) => return,
            Ok(Some(first)) => first,
        };
        let arrived = first.at;
        let was_complete = gather.is_complete();
        let mut changes = Vec::new();
        for told in collect(first, &mut news, was_complete).await {
            gather.take(told.kind, told.news, &mut changes);
        }
        gather.told(&mut changes);
        if changes.is_empty() {
            continue;
        }
        feed.apply(changes);
        metrics::histogram!("weft_config_lag_milliseconds").record(arrived.elapsed().as_secs_f64() * 1e3);
        for (kind, count) in gather.counts() {
            #[allow(clippy::cast_precision_loss, reason = "objects are far fewer than 2^52")]
            metrics::gauge!("weft_config_objects", "kind" => kind).set(count as f64);
        }
        if gather.is_complete() && !was_complete {
            tracing::info!(took = ?began.elapsed(), "the first lists of the API server are complete");
        }
    }
}

/// What comes within a moment.
async fn collect(first: Told, news: &mut mpsc::Receiver<Told>, complete: bool) -> Vec<Told> {
    let longest = if complete { LONGEST } else { LONGEST_BEFORE_COMPLETE };
    let end = Instant::now() + longest;
    let mut batch = vec![first];
    while batch.len() < MOST {
        let quiet = (Instant::now() + QUIET).min(end);
        match tokio::time::timeout_at(quiet, news.recv()).await {
            Ok(Some(told)) => batch.push(told),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use decide::{model::MeshSettings, snapshot::Snapshot};
    use serde_json::json;

    use super::*;
    use crate::config::{
        Reader,
        kubernetes::{
            read::read,
            scope::{Kind, Scope},
            trouble::Trouble,
            watch::News,
        },
    };

    /// The watches of a ca, played by hand.
    struct Server {
        kinds: &'static [Kind],
        tell: mpsc::Sender<Told>,
        reader: Reader,
    }

    impl Server {
        fn start() -> Self {
            let kinds = Scope::Authority.kinds();
            let (feed, reader) = Feed::new(MeshSettings::default());
            let (tell, news) = mpsc::channel(MOST);
            tokio::spawn(run(feed, Gather::new(kinds), news));
            Self { kinds, tell, reader }
        }

        async fn say(&self, kind: &str, news: News) {
            let kind = self.kinds.iter().position(|it| it.kind == kind).expect("a kind");
            let at = Instant::now();
            self.tell.send(Told { kind, at, news }).await.expect("somebody listens");
        }

        async fn pod(&self, name: &str) {
            let kind = self.kinds.iter().find(|it| it.kind == "Pod").expect("a kind");
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}});
            self.say("Pod", News::Put(Box::new(read(kind, pod)))).await;
        }

        async fn list_all(&self) {
            for kind in self.kinds {
                self.say(kind.kind, News::Listing).await;
                self.say(kind.kind, News::Listed).await;
            }
        }
    }

    fn problems(snapshot: &Arc<Snapshot>) -> Vec<String> {
        let all = snapshot.problems.iter().flat_map(|(_, problems)| problems.iter());
        all.map(|problem| format!("{} {}", problem.object.kind, problem.object.name))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_within_a_moment_is_one_snapshot() {
        let mut server = Server::start();
        server.list_all().await;
        let first = server.reader.changed().await;
        assert!(first.complete);
        for number in 0..50 {
            server.pod(&format!("web-{number}")).await;
        }
        let second = server.reader.changed().await;
        assert_eq!((second.version, second.workloads.len()), (first.version + 1, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_quiet_that_never_comes() {
        let mut server = Server::start();
        server.list_all().await;
        server.reader.changed().await;
        let began = Instant::now();
        let tell = server.tell.clone();
        let kinds = server.kinds;
        let chatter = tokio::spawn(async move {
            let kind = kinds.iter().position(|it| it.kind == "Pod").expect("a kind");
            for number in 0.. {
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("web-{number}"), "namespace": "shop"}});
                let news = News::Put(Box::new(read(&kinds[kind], pod)));
                let at = Instant::now();
                if tell.send(Told { kind, at, news }).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        server.reader.changed().await;
        assert!(began.elapsed() <= LONGEST * 2, "{:?}", began.elapsed());
        chatter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_away_what_was_known_stays_and_the_snapshot_says_so() {
        let mut server = Server::start();
        server.list_all().await;
        server.pod("web").await;
        server.reader.changed().await;
        server
            .say("Pod", News::Trouble(Trouble::Unreachable("refused".into())))
            .await;
        let away = server.reader.wait_for(|snapshot| !snapshot.problems.is_empty()).await;
        assert_eq!(problems(&away), ["APIServer connection"]);
        assert!(away.complete);
        assert_eq!(away.workloads.len(), 1);
        server.say("Pod", News::Heard).await;
        let back = server.reader.wait_for(|snapshot| snapshot.problems.is_empty()).await;
        assert_eq!(back.workloads.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_reads() {
        let server = Server::start();
        let Server { tell, reader, .. } = server;
        drop(reader);
        tell.closed().await;
    }
}
