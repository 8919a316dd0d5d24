//! Both sides over real sockets.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    Announced, Announcements, ListenError, Packets, Pod, Pods, Request, Response, connect, listen,
    message::{decode_hello, decode_response, encode_hello, encode_response},
};

const SOON: Duration = Duration::from_secs(20);

/// A ztunnel that writes down what it is told.
#[derive(Clone, Default)]
struct Told {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Seen {
    /// UIDs served, with the inode of the namespace each came with.
    served: BTreeMap<String, u64>,
    refuse: BTreeMap<String, u32>,
    snapshots: u32,
    connections: u32,
    number: u64,
}

impl Told {
    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let changed = change(&mut self.seen.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
        changed
    }

    async fn until(&self, what: &str, law: impl Fn(&Seen) -> bool) {
        let mut changed = self.changed.subscribe();
        timeout(SOON, async {
            while !law(&self.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        })
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

impl Pods for Told {
    async fn add(&mut self, pod: Pod, netns: OwnedFd) -> Response {
        let inode = rustix::fs::fstat(&netns).unwrap().st_ino;
        self.change(|seen| {
            if let Some(left) = seen.refuse.get_mut(&*pod.uid).filter(|left| **left > 0) {
                *left -= 1;
                return Err("not yet".to_owned());
            }
            seen.served.insert(pod.uid.to_string(), inode);
            Ok(())
        })
    }

    fn keep(&mut self, uid: &str) -> Response {
        if self.seen.lock().unwrap().served.contains_key(uid) {
            Ok(())
        } else {
            Err("unknown".to_owned())
        }
    }

    fn release(&mut self, uid: &str) {
        self.change(|seen| seen.served.remove(uid));
    }

    fn told(&mut self, uids: &HashSet<Arc<str>>) {
        self.change(|seen| {
            seen.snapshots += 1;
            seen.served.retain(|uid, _| uids.contains(&**uid));
        });
    }

    fn connected(&mut self, connected: bool) {
        self.change(|seen| seen.connections += u32::from(connected));
    }

    fn number(&self) -> u64 {
        self.seen.lock().unwrap().number
    }
}

fn ztunnel(path: &Path) -> (Told, JoinHandle<()>) {
    numbered(path, 0)
}

fn numbered(path: &Path, number: u64) -> (Told, JoinHandle<()>) {
    let told = Told::default();
    told.change(|seen| seen.number = number);
    let (mut pods, path) = (told.clone(), path.to_owned());
    let task = tokio::spawn(async move { connect(&path, &mut pods).await });
    (told, task)
}

fn agent(path: &Path) -> (Announcements, JoinHandle<()>) {
    let announcements = Announcements::new();
    let task = tokio::spawn(listen(path, announcements.clone()).unwrap());
    (announcements, task)
}

fn pod(uid: &str) -> Announced {
    Announced {
        pod: Pod {
            uid: uid.into(),
            name: uid.into(),
            namespace: "shop".into(),
            service_account: "default".into(),
        },
        netns: Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into()),
    }
}

fn served(uids: &[&str]) -> impl Fn(&Seen) -> bool {
    let wanted: Vec<String> = uids.iter().map(|uid| (*uid).to_owned()).collect();
    move |seen| seen.served.keys().eq(wanted.iter())
}

/// How many descriptors of this process are of this file.
fn open_descriptors(of: &Path) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter(|entry| std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|file| file == of))
        .count()
}

#[tokio::test]
async fn a_ztunnel_serves_what_is_announced_and_releases_what_is_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    announcements.announce(pod("a"));
    announcements.complete();
    let (told, _ztunnel) = ztunnel(&path);
    timeout(SOON, announcements.served("a")).await.unwrap();
    let here = std::fs::metadata("/proc/thread-self/ns/net").unwrap();
    told.until("the namespace itself arrives", |seen| {
        seen.served.get("a") == Some(&std::os::unix::fs::MetadataExt::ino(&here))
    })
    .await;
    announcements.announce(pod("b"));
    announcements.withdraw("a");
    told.until("only b", served(&["b"])).await;
    assert_eq!(announcements.standing("a"), None);
}

#[tokio::test]
async fn the_snapshot_ends_only_when_every_pod_has_been_announced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    let (told, _ztunnel) = ztunnel(&path);
    announcements.announce(pod("a"));
    timeout(SOON, announcements.served("a")).await.unwrap();
    assert_eq!(told.seen.lock().unwrap().snapshots, 0);
    announcements.complete();
    told.until("a snapshot", |seen| seen.snapshots == 1).await;
}

#[tokio::test]
async fn a_new_agent_keeps_what_it_announces_again_and_the_rest_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (first, task) = agent(&path);
    first.announce(pod("a"));
    first.announce(pod("b"));
    first.complete();
    let (told, _ztunnel) = ztunnel(&path);
    told.until("both", served(&["a", "b"])).await;
    task.abort();
    let _ = task.await;
    assert!(!path.exists(), "the socket's file goes with the agent");
    let (second, _agent) = agent(&path);
    second.announce(pod("b"));
    timeout(SOON, second.served("b")).await.unwrap();
    told.until("a is served while the snapshot is not complete", served(&["a", "b"]))
        .await;
    second.complete();
    told.until("only b", served(&["b"])).await;
}

#[tokio::test]
async fn a_new_ztunnel_is_told_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    announcements.announce(pod("a"));
    announcements.complete();
    let (told, task) = ztunnel(&path);
    told.until("a", served(&["a"])).await;
    task.abort();
    let (told, _second) = ztunnel(&path);
    told.until("a, and the snapshot's end", |seen| {
        served(&["a"])(seen) && seen.snapshots == 1
    })
    .await;
}

#[tokio::test]
async fn of_two_ztunnels_the_word_of_the_one_that_started_last_counts_and_the_other_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    announcements.complete();
    // after a restart of the agent they may come back in any order
    let (newer, task) = numbered(&path, 20);
    newer.until("connected", |seen| seen.snapshots == 1).await;
    let (older, _older) = numbered(&path, 10);
    older.until("connected", |seen| seen.snapshots == 1).await;
    newer.change(|seen| seen.refuse.insert("a".to_owned(), u32::MAX));
    announcements.announce(pod("a"));
    older.until("both are told", served(&["a"])).await;
    let said = async {
        while announcements.standing("a").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, said).await.unwrap();
    assert_eq!(announcements.standing("a"), Some(Err("not yet".to_owned())));
    task.abort();
    timeout(SOON, announcements.served("a")).await.unwrap();
}

#[tokio::test]
async fn a_refused_pod_is_told_again_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    let (told, _ztunnel) = ztunnel(&path);
    told.change(|seen| seen.refuse.insert("a".to_owned(), 2));
    announcements.announce(pod("a"));
    announcements.announce(pod("b"));
    announcements.complete();
    timeout(SOON, announcements.served("b")).await.unwrap();
    assert!(
        announcements
            .standing("a")
            .is_none_or(|said| said == Err("not yet".to_owned()))
    );
    timeout(SOON, announcements.served("a")).await.unwrap();
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (_announcements, _agent) = agent(&path);
    let taken = listen(&path, Announcements::new()).err().unwrap();
    assert!(matches!(taken, ListenError::Taken(_)), "{taken}");
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        listen(&file, Announcements::new()).err(),
        Some(ListenError::Occupied(_))
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let nowhere = dir.path().join("no/such/directory");
    assert!(matches!(
        listen(&nowhere, Announcements::new()).err(),
        Some(ListenError::System(..))
    ));
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (_announcements, _agent) = agent(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A raw listener that plays a misbehaving agent.
fn listening(path: &Path) -> super::packet::Listener {
    super::packet::Listener::bind(path).unwrap()
}

#[tokio::test]
async fn whatever_an_agent_sends_a_ztunnel_says_why_not_and_comes_back_and_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let listener = listening(&path);
    let (told, _ztunnel) = ztunnel(&path);
    let add = Request::Add(pod("a").pod).encode().unwrap();
    let hostile: Vec<(Vec<u8>, usize, &str)> = vec![
        (b"\xff\xff".to_vec(), 0, "no WorkloadRequest"),
        (b"\x22\x00".to_vec(), 0, "lacks a known payload"),
        (add.clone(), 0, "0 file descriptors"),
        (add.clone(), 2, "2 file descriptors"),
        (add, 200, "file descriptors"),
        (Request::SnapshotSent.encode().unwrap(), 1, "1 file descriptors"),
        (vec![0x0a; 1025], 1, "longer than"),
    ];
    let stray = dir.path().join("stray");
    let file = File::create(&stray).unwrap();
    for (packet, descriptors, why) in hostile {
        let packets = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        let hello = packets.receive().await.unwrap().unwrap();
        decode_hello(&hello.packet, hello.descriptors.len()).unwrap();
        packets
            .send(&Request::SnapshotSent.encode().unwrap(), None)
            .await
            .unwrap();
        timeout(SOON, packets.receive()).await.unwrap().unwrap().unwrap();
        send_raw(&packets, &packet, &vec![file.as_fd(); descriptors]);
        let answer = timeout(SOON, packets.receive()).await.unwrap().unwrap().unwrap();
        let said = decode_response(&answer.packet, 0).unwrap().unwrap_err();
        assert!(said.contains(why), "{said}");
        assert!(
            timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none(),
            "closed after {why}"
        );
        assert_eq!(open_descriptors(&stray), 1, "descriptors leaked by {why}");
    }
    told.until("it came back each time", |seen| seen.connections >= 7).await;
    assert!(told.seen.lock().unwrap().served.is_empty());
}

#[tokio::test]
async fn keep_is_answered_before_the_snapshots_end_and_refused_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let listener = listening(&path);
    let (told, _ztunnel) = ztunnel(&path);
    let packets = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    packets.receive().await.unwrap().unwrap();
    let netns = pod("a").netns;
    let exchange = async |request: Request| {
        let netns = matches!(request, Request::Add(_)).then(|| netns.as_fd());
        packets.send(&request.encode().unwrap(), netns).await.unwrap();
        let answer = timeout(SOON, packets.receive()).await.unwrap().unwrap().unwrap();
        decode_response(&answer.packet, 0).unwrap()
    };
    assert_eq!(exchange(Request::Keep("a".into())).await, Err("unknown".to_owned()));
    assert_eq!(exchange(Request::Add(pod("a").pod)).await, Ok(()));
    assert_eq!(exchange(Request::Keep("a".into())).await, Ok(()));
    assert_eq!(exchange(Request::SnapshotSent).await, Ok(()));
    told.until("a", served(&["a"])).await;
    assert!(
        exchange(Request::Keep("a".into()))
            .await
            .unwrap_err()
            .contains("after SnapshotSent")
    );
    assert!(timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn a_ztunnel_that_breaks_the_protocol_is_let_go_and_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let (announcements, _agent) = agent(&path);
    announcements.complete();
    for hello in [&b"\xff"[..], b"\x08\x07", b"\x0a\x00"] {
        let packets = Packets::connect(&path).unwrap();
        packets.send(hello, None).await.unwrap();
        assert!(timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none());
    }
    let packets = Packets::connect(&path).unwrap();
    let stray = pod("a").netns;
    packets.send(&encode_hello(0), Some(stray.as_fd())).await.unwrap();
    assert!(timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none());

    let packets = Packets::connect(&path).unwrap();
    packets.send(&encode_hello(0), None).await.unwrap();
    let sent = timeout(SOON, packets.receive()).await.unwrap().unwrap().unwrap();
    assert_eq!(Request::decode(&sent.packet, 0), Ok(Request::SnapshotSent));
    packets.send(b"\x0a\xff", None).await.unwrap();
    assert!(timeout(SOON, packets.receive()).await.unwrap().unwrap().is_none());
    let (told, _ztunnel) = ztunnel(&path);
    told.until("a better one is served", |seen| seen.snapshots == 1).await;
}

#[tokio::test]
async fn packets_keep_their_bounds() {
    let (left, right) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let (left, right) = (Packets::new(left).unwrap(), Packets::new(right).unwrap());
    left.send(b"one", None).await.unwrap();
    left.send(&encode_response(&Ok(())), None).await.unwrap();
    assert_eq!(right.receive().await.unwrap().unwrap().packet, b"one");
    assert_eq!(right.receive().await.unwrap().unwrap().packet, [0x0a, 0x00]);
    drop(left);
    assert!(right.receive().await.unwrap().is_none());
}

fn send_raw(packets: &Packets, packet: &[u8], rights: &[BorrowedFd<'_>]) {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(beside.push(SendAncillaryMessage::ScmRights(rights)));
    }
    sendmsg(packets, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL).unwrap();
}
