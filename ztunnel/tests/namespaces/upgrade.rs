//! One ztunnel after another, under two hundred new connections a second.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use act::{certs::local::LocalAuthority, telemetry::Metrics};
use decide::model::Phase;
use tokio::time::Instant;
use ztunnel::node::{LAST_WORDS, end};

use crate::{
    names::{self, query, turned},
    node::{Node, ZDS, at, outside, permissive},
    payments::payments,
    proxy::{Ztunnel, listeners},
    world::{Call, PodNet, SOON, alone, sh, until},
};

/// Between two new connections.
const BEAT: Duration = Duration::from_millis(5);

/// New connections at a steady rate, each with one exchange.
struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    beats: Option<thread::JoinHandle<()>>,
}

impl Steady {
    fn start(client: &PodNet, to: SocketAddr) -> Self {
        let client = client.clone();
        Self::of(move |_| client.call(to).and_then(|mut call| call.echo()))
    }

    /// DNS queries, each asked once: every other one for a name of ours, the rest for the server to answer.
    fn asking(client: &PodNet, server: SocketAddr) -> Self {
        let client = client.clone();
        Self::of(move |number| {
            let ours = query("payments.example");
            let (query, ours) = match number % 2 {
                0 => (ours, true),
                _ => (query(&format!("web-{number}.shop.svc.cluster.local")), false),
            };
            let answer = names::ask_once(&client, server, &query, SOON)?;
            let right = if ours {
                answer.ends_with(&[240, 0, 0, 7])
            } else {
                answer == turned(&query)
            };
            right
                .then_some(())
                .ok_or_else(|| io::Error::other(format!("{answer:?}")))
        })
    }

    fn of(call: impl Fn(usize) -> io::Result<()> + Clone + Send + 'static) -> Self {
        let (stop, answered, failed) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let halted = stop.clone();
        let (ok, ko) = (answered.clone(), failed.clone());
        let beats = thread::spawn(move || {
            let (mut under_way, mut number) = (Vec::new(), 0);
            let mut next = Instant::now();
            while !halted.load(SeqCst) {
                let (call, ok, ko) = (call.clone(), ok.clone(), ko.clone());
                number += 1;
                under_way.push(thread::spawn(move || match call(number) {
                    Ok(()) => drop(ok.fetch_add(1, SeqCst)),
                    Err(why) => ko.lock().unwrap().push(why.to_string()),
                }));
                under_way.retain(|call| !call.is_finished());
                next += BEAT;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            under_way.into_iter().for_each(|call| call.join().unwrap());
        });
        Self {
            stop,
            answered,
            failed,
            beats: Some(beats),
        }
    }

    /// Goes on until this many more were answered.
    async fn go_on(&self, more: usize) {
        let wanted = self.answered.load(SeqCst) + more;
        until(&format!("{more} more: {:?}", self.failed.lock().unwrap()), || {
            self.answered.load(SeqCst) >= wanted
        })
        .await;
    }

    /// Nothing failed.
    async fn flawless(mut self) {
        self.stop.store(true, SeqCst);
        let beats = self.beats.take().unwrap();
        tokio::task::spawn_blocking(move || beats.join().unwrap())
            .await
            .unwrap();
        let failed = self.failed.lock().unwrap();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    }
}

/// A captured server and a client outside, both with an echo server where they need one.
async fn stage() -> (PodNet, PodNet, Node, Arc<LocalAuthority>) {
    let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
    server.serve(80);
    let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
    (server, client, node, Arc::new(LocalAuthority::new().unwrap()))
}

#[test]
fn a_younger_ztunnel_takes_over_and_nobody_notices() {
    alone("upgrade::a_younger_ztunnel_takes_over_and_nobody_notices", async || {
        let (server, client, node, authority) = stage().await;
        let old = Ztunnel::join(&authority, &node).await;
        node.state("server", Some("Captured")).await;
        let mut kept = client.call(at(server.v4, 80)).unwrap();
        let load = Steady::start(&client, at(server.v4, 80));
        load.go_on(100).await;
        let new = Ztunnel::join(&authority, &node).await;
        assert_eq!(new.elders.count(), 1);
        new.reaches("server", Some("Serving")).await;
        old.reaches("server", Some("HandedOver")).await;
        let mut superseded = old.pods.superseded();
        until_done(&new).await;
        tokio::time::timeout(SOON, superseded.wait_for(|it| *it))
            .await
            .unwrap()
            .unwrap();
        load.go_on(200).await;
        assert!(!old.stop().await, "it has no elder");
        until("what it accepts runs out, what is kept stays", || {
            old.open("server") == 1
        })
        .await;
        for _ in 0..3 {
            kept.echo().unwrap();
        }
        let pods = old.pods.clone();
        let ended = tokio::spawn(async move { pods.ended().await });
        load.go_on(50).await;
        assert!(!ended.is_finished());
        drop(kept);
        tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
        assert_eq!(listeners(&server), 3, "one socket each, however many hold it");
        load.flawless().await;
    });
}

#[test]
fn a_younger_ztunnel_takes_over_and_no_dns_query_is_lost() {
    alone(
        "upgrade::a_younger_ztunnel_takes_over_and_no_dns_query_is_lost",
        async || {
            let (client, server) = (PodNet::new("client", 2), PodNet::new("server", 3));
            // Long enough that many wait for their answers at any moment.
            names::name_server(&server, server.v4, Duration::from_millis(300));
            let mut node = Node::start(Path::new(ZDS), &[permissive(&client)]);
            node.put_external(payments());
            let authority = Arc::new(LocalAuthority::new().unwrap());
            let mut last = Ztunnel::join(&authority, &node).await;
            node.state("client", Some("Captured")).await;
            until("the rules are there", || client.nft().contains("tproxy")).await;
            until("it answers", || sockets(&client) > 0).await;
            let first = sockets(&client);
            let load = Steady::asking(&client, at(server.v4, 53));
            load.go_on(100).await;
            for _ in 0..3 {
                let new = Ztunnel::join(&authority, &node).await;
                last.reaches("client", Some("HandedOver")).await;
                assert!(!last.stop().await, "it has no elder");
                tokio::time::timeout(SOON, last.pods.ended()).await.unwrap();
                load.go_on(100).await;
                assert_eq!(sockets(&client), first, "one each, however many hold it");
                last = new;
            }
            // One that is taken back, while the elder goes on.
            let new = Ztunnel::join(&authority, &node).await;
            last.reaches("client", Some("HandedOver")).await;
            load.go_on(100).await;
            assert!(new.stop().await, "the elder goes on");
            last.reaches("client", Some("Serving")).await;
            load.go_on(100).await;
            tokio::time::timeout(SOON, new.pods.ended()).await.unwrap();
            load.go_on(100).await;
            load.flawless().await;
        },
    );
}

/// Sockets that take a pod's DNS queries.
fn sockets(pod: &PodNet) -> usize {
    let told = sh(&format!("ip netns exec {} ss -Hanu", pod.uid));
    told.lines().filter(|line| line.contains(":15053")).count()
}

async fn until_done(new: &Ztunnel) {
    let asked = async {
        while !new.elders.done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, asked).await.unwrap();
}

#[test]
fn a_rollout_that_is_taken_back_loses_nothing() {
    alone("upgrade::a_rollout_that_is_taken_back_loses_nothing", async || {
        let (server, client, node, authority) = stage().await;
        let old = Ztunnel::join(&authority, &node).await;
        node.state("server", Some("Captured")).await;
        let load = Steady::start(&client, at(server.v4, 80));
        for _ in 0..3 {
            let new = Ztunnel::join(&authority, &node).await;
            old.reaches("server", Some("HandedOver")).await;
            load.go_on(50).await;
            let mut kept = client.call(at(server.v4, 80)).unwrap();
            assert!(new.stop().await, "the elder goes on");
            old.reaches("server", Some("Serving")).await;
            new.reaches("server", Some("Closed")).await;
            load.go_on(50).await;
            kept.echo().unwrap();
        }
        load.flawless().await;
    });
}

#[test]
fn asked_to_stop_alone_it_serves_on_until_another_takes_over() {
    alone(
        "upgrade::asked_to_stop_alone_it_serves_on_until_another_takes_over",
        async || {
            let (server, client, node, authority) = stage().await;
            let old = Ztunnel::join(&authority, &node).await;
            node.state("server", Some("Captured")).await;
            let load = Steady::start(&client, at(server.v4, 80));
            load.go_on(50).await;
            assert!(!old.stop().await);
            load.go_on(100).await;
            assert_eq!(old.state("server").as_deref(), Some("Serving"));
            let third = Ztunnel::join(&authority, &node).await;
            third.reaches("server", Some("Serving")).await;
            tokio::time::timeout(SOON, old.pods.ended()).await.unwrap();
            load.go_on(100).await;
            // that one is asked to stop, too: the first will not go on, so it does
            assert!(!third.stop().await);
            load.go_on(50).await;
            load.flawless().await;
        },
    );
}

#[test]
fn what_is_left_at_the_end_of_the_grace_is_told_and_cut() {
    alone(
        "upgrade::what_is_left_at_the_end_of_the_grace_is_told_and_cut",
        async || {
            let (server, client, node, authority) = stage().await;
            let old = Ztunnel::join(&authority, &node).await;
            node.state("server", Some("Captured")).await;
            let mut kept: Vec<Call> = (0..3).map(|_| client.call(at(server.v4, 80)).unwrap()).collect();
            let new = Ztunnel::join(&authority, &node).await;
            old.reaches("server", Some("HandedOver")).await;
            let mut late = client.call(at(server.v4, 80)).unwrap();
            assert!(!old.stop().await && !old.pods.is_alone());
            let grace = tokio::time::timeout(Duration::from_millis(500), old.pods.ended()).await;
            assert!(grace.is_err(), "they live on");
            for call in &mut kept {
                call.echo().unwrap();
            }
            assert_eq!(old.pods.cut(), 3);
            tokio::time::timeout(SOON, old.pods.ended()).await.unwrap();
            for call in &mut kept {
                call.echo().unwrap_err();
            }
            late.echo().unwrap();
            assert_eq!(new.open("server"), 1);
            // the one that is left is alone now
            assert!(!new.stop().await && new.pods.is_alone());
        },
    );
}

#[test]
fn a_long_lived_connection_lives_through_the_whole_grace_and_what_is_cut_is_told() {
    const GRACE: Duration = Duration::from_secs(10);
    alone(
        "upgrade::a_long_lived_connection_lives_through_the_whole_grace_and_what_is_cut_is_told",
        async || {
            let (metrics, log) = (Metrics::install(), Log::start());
            let (server, client, node, authority) = stage().await;
            let old = Ztunnel::join(&authority, &node).await;
            node.state("server", Some("Captured")).await;
            let mut kept: Vec<Call> = (0..3).map(|_| client.call(at(server.v4, 80)).unwrap()).collect();
            let new = Ztunnel::join(&authority, &node).await;
            old.reaches("server", Some("HandedOver")).await;
            let asked = Instant::now();
            let (settings, pods) = (old.settings.clone(), old.pods.clone());
            let ending = tokio::spawn(async move {
                // as the process does at SIGTERM
                end(&settings, &pods, GRACE, SOON).await;
                asked.elapsed()
            });
            while asked.elapsed() < GRACE / 2 {
                for call in &mut kept {
                    call.echo().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let lasted = tokio::time::timeout(SOON, ending).await.unwrap().unwrap();
            assert!(lasted >= GRACE - LAST_WORDS, "{lasted:?}");
            for call in &mut kept {
                call.echo().unwrap_err();
            }
            assert!(metrics.render().contains("weft_grace_cut_total 3"));
            let told = log.text();
            for line in [
                "cut at the end of the grace pod=server",
                "ending: what was still open is cut why=\"the grace has ended\" open=3",
            ] {
                assert!(told.contains(line), "{line}: {told}");
            }
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(new.state("server").as_deref(), Some("Serving"));
        },
    );
}

/// What this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn of_three_the_last_serves_and_each_falls_back_to_the_one_before() {
    alone(
        "upgrade::of_three_the_last_serves_and_each_falls_back_to_the_one_before",
        async || {
            let (server, client, node, authority) = stage().await;
            let first = Ztunnel::join(&authority, &node).await;
            node.state("server", Some("Captured")).await;
            let load = Steady::start(&client, at(server.v4, 80));
            let second = Ztunnel::join(&authority, &node).await;
            first.reaches("server", Some("HandedOver")).await;
            let third = Ztunnel::join(&authority, &node).await;
            assert_eq!(third.elders.count(), 2);
            second.reaches("server", Some("HandedOver")).await;
            load.go_on(50).await;
            assert!(third.stop().await);
            second.reaches("server", Some("Serving")).await;
            assert_eq!(first.state("server").as_deref(), Some("HandedOver"));
            load.go_on(50).await;
            assert!(second.stop().await);
            first.reaches("server", Some("Serving")).await;
            load.go_on(50).await;
            load.flawless().await;
        },
    );
}

#[test]
fn pods_come_and_go_while_two_ztunnels_are_there() {
    alone("upgrade::pods_come_and_go_while_two_ztunnels_are_there", async || {
        let (server, client, mut node, authority) = stage().await;
        let old = Ztunnel::join(&authority, &node).await;
        node.state("server", Some("Captured")).await;
        let new = Ztunnel::join(&authority, &node).await;
        old.reaches("server", Some("HandedOver")).await;
        let late = PodNet::new("late", 4);
        late.serve(80);
        node.put(permissive(&late));
        node.state("late", Some("Captured")).await;
        new.reaches("late", Some("Serving")).await;
        old.reaches("late", Some("HandedOver")).await;
        let load = Steady::start(&client, at(late.v4, 80));
        load.go_on(100).await;
        load.flawless().await;
        assert_eq!(old.open("late"), 0);
        // the first pod leaves: both let it go, and nothing of ours is left in it
        node.put(outside(&server));
        old.reaches("server", None).await;
        new.reaches("server", Some("Draining")).await;
        new.stopping.cancel();
        until("nobody listens in it", || listeners(&server) == 0).await;
    });
}

#[test]
fn a_pod_that_is_asked_to_stop_keeps_what_it_has_and_is_still_reached() {
    alone(
        "upgrade::a_pod_that_is_asked_to_stop_keeps_what_it_has_and_is_still_reached",
        async || {
            let (server, client, mut node, authority) = stage().await;
            let ztunnel = Ztunnel::join(&authority, &node).await;
            node.state("server", Some("Captured")).await;
            let mut kept: Vec<Call> = (0..5).map(|_| client.call(at(server.v4, 80)).unwrap()).collect();
            let load = Steady::start(&client, at(server.v4, 80));
            let mut stopping = permissive(&server);
            stopping.phase = Phase::Terminating;
            node.put(stopping);
            load.go_on(100).await;
            assert_eq!(ztunnel.state("server").as_deref(), Some("Serving"));
            for call in &mut kept {
                call.echo().unwrap();
            }
            load.flawless().await;
        },
    );
}
