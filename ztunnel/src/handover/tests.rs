//! Both sides over real sockets.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use act::net::{Listen, Netns, listen};
use decide::model::ports::HBONE;
use tokio::{task::JoinHandle, time::timeout};

use super::{Answer, Elders, Heritage, Place, Request, serve};
use crate::zds::{Packets, bind};

const SOON: Duration = Duration::from_secs(20);
const INODE: u64 = 7;

type Listeners = Vec<(u16, TcpListener)>;

/// A ztunnel's pods, as far as they can be handed over.
#[derive(Clone, Default)]
struct Pods {
    heirs: Arc<Mutex<super::Heirs>>,
    open: Arc<Mutex<BTreeMap<String, Listeners>>>,
    stopping: bool,
}

impl Pods {
    fn of(uid: &str, listeners: Listeners) -> Self {
        let pods = Self::default();
        pods.open.lock().unwrap().insert(uid.to_owned(), listeners);
        pods
    }

    fn accepts(&self, uid: &str) -> bool {
        !self.heirs.lock().unwrap().hold(uid)
    }
}

impl Heritage for Pods {
    fn join(&self, heir: u64) {
        self.heirs.lock().unwrap().join(heir);
    }

    fn offer(&self, uid: &Arc<str>, netns: u64) -> Result<Vec<(u16, OwnedFd)>, String> {
        let open = self.open.lock().unwrap();
        let listeners = open.get(&**uid).filter(|_| netns == INODE).ok_or("nothing")?;
        Ok(listeners
            .iter()
            .map(|(port, listener)| (*port, listener.try_clone().unwrap().into()))
            .collect())
    }

    fn take(&self, heir: u64, uid: &Arc<str>, sockets: &[u64]) -> Result<(), String> {
        let open = self.open.lock().unwrap();
        let ours = open.get(&**uid).map(|open| inodes(open)).unwrap_or_default();
        self.heirs.lock().unwrap().take(heir, uid, &ours, sockets)
    }

    fn finish(&self, heir: u64) -> Result<(), String> {
        let ours: Vec<Arc<str>> = self.open.lock().unwrap().keys().map(|uid| (**uid).into()).collect();
        self.heirs.lock().unwrap().finish(heir, &ours)
    }

    fn leave(&self, heir: u64) {
        self.heirs.lock().unwrap().leave(heir);
    }

    fn stays(&self) -> bool {
        !self.stopping
    }
}

async fn elder(directory: &Path, pods: &Pods) -> JoinHandle<()> {
    let place = Place::take(directory).await.unwrap();
    tokio::spawn(serve(place, pods.clone()))
}

async fn younger(directory: &Path) -> (Place, Elders) {
    let place = Place::take(directory).await.unwrap();
    let elders = Elders::greet(place.number, &place.elders).await;
    (place, elders)
}

fn inodes(listeners: &[(u16, TcpListener)]) -> Vec<u64> {
    let which = |(_, listener): &(u16, TcpListener)| rustix::fs::fstat(listener).unwrap().st_ino;
    listeners.iter().map(which).collect()
}

fn uid() -> Arc<str> {
    "a".into()
}

/// A listener on a port of the mesh; the tests of this file that open one take turns.
async fn door() -> (Listeners, tokio::sync::MutexGuard<'static, ()>) {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = TURN.lock().await;
    let listener = listen(&Netns::own(), Listen::everywhere(HBONE).shared()).unwrap();
    (vec![(HBONE, listener)], turn)
}

async fn until(what: &str, law: impl Fn() -> bool) {
    let waiting = async {
        while !law() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn who_waits_to_be_accepted_is_handed_over_with_the_listener() {
    let dir = tempfile::tempdir().unwrap();
    let (door, _turn) = door().await;
    let pods = Pods::of("a", door);
    let _elder = elder(dir.path(), &pods).await;
    let mut waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, HBONE)).unwrap();
    let (_place, elders) = younger(dir.path()).await;
    let other = elders.want(&uid(), INODE + 1).await;
    assert!(
        other.listeners.is_empty() && other.names.is_empty(),
        "another namespace"
    );
    let handed = elders.want(&uid(), INODE).await.listeners;
    // the elder dies: its descriptors are closed, the queue is not
    pods.open.lock().unwrap().clear();
    let [(HBONE, listener)] = handed.as_slice() else {
        panic!("{handed:?}")
    };
    listener.set_nonblocking(false).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.write_all(b"here").unwrap();
    let mut said = [0; 4];
    waiting.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"here");
}

#[tokio::test]
async fn an_elder_accepts_until_told_and_again_when_the_younger_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (door, _turn) = door().await;
    let pods = Pods::of("a", door);
    let _elder = elder(dir.path(), &pods).await;
    let (_place, elders) = younger(dir.path()).await;
    assert!(!elders.taken(&uid(), &[]).await, "its listeners come first");
    let sockets = inodes(&elders.want(&uid(), INODE).await.listeners);
    assert_eq!(sockets.len(), 1);
    assert!(pods.accepts("a") && !elders.done().await);
    assert!(elders.taken(&uid(), &sockets).await);
    assert!(!pods.accepts("a"));
    assert!(elders.done().await && pods.heirs.lock().unwrap().have_all());
    drop(elders);
    until("it accepts again", || pods.accepts("a")).await;
}

#[tokio::test]
async fn a_third_asks_all_and_the_pod_falls_back_to_whoever_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (door, _turn) = door().await;
    let copy = vec![(HBONE, door[0].1.try_clone().unwrap())];
    let (first, second) = (Pods::of("a", door), Pods::of("a", copy));
    let _first = elder(dir.path(), &first).await;
    let (place, of_second) = younger(dir.path()).await;
    let sockets = inodes(&of_second.want(&uid(), INODE).await.listeners);
    assert!(of_second.taken(&uid(), &sockets).await);
    let _second = tokio::spawn(serve(place, second.clone()));
    let (_place, of_third) = younger(dir.path()).await;
    assert_eq!(of_third.count(), 2);
    assert_eq!(
        of_third.want(&uid(), INODE).await.listeners.len(),
        1,
        "both hand over the same socket"
    );
    assert!(of_third.taken(&uid(), &sockets).await);
    assert!(!first.accepts("a") && !second.accepts("a"));
    drop(of_third);
    until("the second accepts again", || second.accepts("a")).await;
    assert!(!first.accepts("a"), "the second still holds it");
    drop(of_second);
    until("the first accepts again", || first.accepts("a")).await;
}

#[tokio::test]
async fn a_younger_one_that_leaves_gives_back_unless_the_elder_leaves_too() {
    let dir = tempfile::tempdir().unwrap();
    for stopping in [false, true] {
        let pods = Pods {
            stopping,
            ..Pods::default()
        };
        let elder = elder(dir.path(), &pods).await;
        let (_place, elders) = younger(dir.path()).await;
        assert!(elders.taken(&uid(), &[]).await);
        assert!(!pods.accepts("a"));
        assert_eq!(elders.leave().await, !stopping);
        assert_eq!(pods.accepts("a"), !stopping);
        elder.abort();
    }
}

#[tokio::test]
async fn a_dead_elders_socket_is_removed_and_asked_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("3.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (place, elders) = younger(dir.path()).await;
    assert_eq!((elders.count(), place.number > 3), (0, true));
    assert!(!path.exists());
    // one that dies in the middle
    let pods = Pods::default();
    let elder = elder(dir.path(), &pods).await;
    let (_place, elders) = younger(dir.path()).await;
    assert!(elders.taken(&uid(), &[]).await);
    elder.abort();
    let _ = elder.await;
    assert!(elders.taken(&uid(), &[]).await && elders.want(&uid(), INODE).await.listeners.is_empty());
    assert!(elders.done().await, "what is dead holds nothing");
    assert_eq!(elders.count(), 0);
}

#[tokio::test]
async fn an_elder_that_does_not_answer_is_waited_for_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("3.sock");
    let (listener, _file) = bind(&path).unwrap();
    let silent = tokio::spawn(async move {
        let packets = listener.accept().await.unwrap();
        let hello = packets.receive().await.unwrap().unwrap();
        let (id, _) = Request::decode(&hello.packet, 0).unwrap();
        packets.send(&Answer::Ok.encode(id).unwrap(), None).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (_place, elders) = younger(dir.path()).await;
    assert_eq!(elders.count(), 1);
    let asked = timeout(SOON, async {
        assert!(elders.want(&uid(), INODE).await.listeners.is_empty());
        assert!(!elders.taken(&uid(), &[]).await, "it may still accept");
        assert!(elders.done().await, "readiness does not wait for it");
    });
    asked.await.unwrap();
    silent.abort();
}

#[tokio::test]
async fn whoever_breaks_the_protocol_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (door, _turn) = door().await;
    let pods = Pods::of("a", door);
    let place = Place::take(dir.path()).await.unwrap();
    let (number, path) = (place.number, dir.path().join(format!("{}.sock", place.number)));
    tokio::spawn(serve(place, pods.clone()));
    let want = Request::Want(uid(), INODE).encode(1).unwrap();
    for first in [
        want.clone(),
        b"\xff\xff".to_vec(),
        Request::Hello(number).encode(1).unwrap(),
        vec![0; 1025],
    ] {
        let packets = Packets::connect(&path).unwrap();
        packets.send(&first, None).await.unwrap();
        assert!(timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none());
    }
    let sockets = inodes(pods.open.lock().unwrap().get("a").unwrap());
    // one that took a pod and then talks nonsense has taken nothing
    let packets = Packets::connect(&path).unwrap();
    for (id, request) in [
        (1, Request::Hello(number + 1)),
        (2, Request::Want(uid(), INODE)),
        (3, Request::Taken(uid(), sockets)),
    ] {
        packets.send(&request.encode(id).unwrap(), None).await.unwrap();
        let answer = timeout(SOON, packets.receive()).await.unwrap().unwrap().unwrap();
        let (to, answer) = Answer::decode(&answer.packet, answer.descriptors.len()).unwrap();
        assert!(to == id && !matches!(answer, Answer::No(_)), "{answer:?}");
    }
    assert!(!pods.accepts("a"));
    packets.send(b"\xff\xff", None).await.unwrap();
    until("it accepts again", || pods.accepts("a")).await;
}

#[tokio::test]
async fn of_those_that_start_at_once_each_knows_all_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let starts = (0..5).map(|_| Place::take(dir.path()));
    let mut places: Vec<Place> = futures_util::future::join_all(starts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    places.sort_by_key(|place| place.number);
    for (before, place) in places.iter().enumerate() {
        assert_eq!(place.elders.len(), before);
        assert!(place.elders.iter().all(|(number, _)| *number < place.number));
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own = dir.path().join(format!("{}.sock", places[0].number));
    assert_eq!(mode(&own), 0o600);
}
