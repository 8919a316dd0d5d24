//! One pod's names, for as long as there are any.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use act::{config::Reader, net::Netns};
use decide::{
    model::{SO_MARK, ports::DNS},
    snapshot::Snapshot,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Inbox,
    flows::Flows,
    message::Question,
    sockets::{Taken, Taker},
};

/// How often the pod's rules are told that we live. They forget us after three times as long.
const BEAT: Duration = Duration::from_secs(1);
/// How long we go on when the last name is gone: the rules go meanwhile.
const LINGER: Duration = Duration::from_secs(10);
/// How long we go on once we are to stop: whoever goes on in our stead, and does not share our sockets, opens its own.
const LAST: Duration = Duration::from_secs(1);
/// How long until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Largest query.
const LARGEST: usize = 65_535;

/// What the names of one pod are answered by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// What should be.
    pub reader: Reader,
    /// The pod's network namespace.
    pub netns: Netns,
    /// Queries that may wait for their answers at a time.
    pub queries: usize,
}

/// Serves a pod's names over UDP, whenever there are any, until `close`; then goes on for a moment, in which whoever
/// serves them next begins, and until the last query that was passed on has its answer. Run it on one thread.
pub async fn serve(names: Names, inbox: Inbox, close: CancellationToken) {
    while !close.is_cancelled() {
        if !names.any() {
            inbox.close();
        }
        tokio::select! {
            () = names.clone().wanted(true) => {}
            () = close.cancelled() => return,
        }
        if let Err(why) = session(&names, &inbox, &close).await {
            tracing::warn!(uid = %names.uid, %why, "cannot answer a pod's names; trying again");
            sleep(AGAIN).await;
        }
    }
}

impl Names {
    /// Whether the mesh answers any name of this pod.
    pub fn any(&self) -> bool {
        self.any_in(&self.reader.load())
    }

    /// The mesh's answer to a query; `None` where the name is not ours.
    pub(super) fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let question = Question::read(query)?;
        let addresses = self.addresses(&question.name()?)?;
        question.answer(&addresses)
    }

    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let snapshot = self.reader.load();
        let own = snapshot.workload(&self.uid)?;
        let service = snapshot.external.named(&own.namespace, name)?;
        let addresses: Vec<IpAddr> = service.answers().collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    fn any_in(&self, snapshot: &Snapshot) -> bool {
        let own = snapshot.workload(&self.uid);
        own.is_some_and(|own| snapshot.external.answers_names(&own.namespace))
    }

    /// Resolves when there are names, or none.
    async fn wanted(mut self, any: bool) {
        let mut snapshot = self.reader.load();
        while self.any_in(&snapshot) != any {
            snapshot = self.reader.changed().await;
        }
    }

    /// Resolves when there has been no name for a while.
    async fn over(&self) {
        loop {
            self.clone().wanted(false).await;
            let until = Instant::now() + LINGER;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.clone().wanted(true) => {}
            }
        }
    }
}

async fn session(names: &Names, inbox: &Inbox, close: &CancellationToken) -> io::Result<()> {
    let sockets = inbox.open(&names.netns)?;
    let v4 = sockets.first().map(Taker::over).transpose()?;
    let v6 = sockets.get(1).map(Taker::over).transpose()?;
    let heart = heart(&names.netns)?;
    let mut flows = Flows::new(names.netns.clone(), names.queries);
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut first, mut second) = (vec![0; LARGEST], vec![0; LARGEST]);
    let mut over = Box::pin(async {
        tokio::select! {
            () = names.over() => {}
            () = close.cancelled() => sleep(LAST).await,
        }
    });
    loop {
        tokio::select! {
            taken = next(v4.as_ref(), &mut first) => handle(names, &mut flows, &first, taken?),
            taken = next(v6.as_ref(), &mut second) => handle(names, &mut flows, &second, taken?),
            () = flows.run() => {}
            // nobody listens to it: that it passes the rules is all
            _ = beats.tick() => drop(heart.send_to(&[], (Ipv4Addr::LOCALHOST, DNS))),
            () = &mut over => break,
        }
    }
    // What has arrived by now, in case these are the last who read it.
    for (taker, buffer) in [(v4, &mut first), (v6, &mut second)] {
        // No more than may wait: a pod that never stops asking keeps nobody here.
        for _ in 0..names.queries {
            match taker.as_ref().and_then(|taker| taker.take_now(buffer)) {
                Some(taken) => handle(names, &mut flows, buffer, taken),
                None => break,
            }
        }
    }
    drop(sockets);
    flows.finish().await;
    Ok(())
}

async fn next(taker: Option<&Taker>, buffer: &mut [u8]) -> io::Result<Taken> {
    match taker {
        Some(taker) => taker.take(buffer).await,
        None => std::future::pending().await,
    }
}

fn handle(names: &Names, flows: &mut Flows, buffer: &[u8], taken: Taken) {
    let Taken { length, client, server } = taken;
    // our own heart beats here too
    if server.port() == DNS {
        return;
    }
    let query = buffer.get(..length).unwrap_or_default();
    let (done, how) = match names.answer(query) {
        Some(answer) => (flows.answer(client, server, &answer), "answered"),
        None => (flows.forward(client, server, query), "forwarded"),
    };
    let how = match done {
        Ok(()) => how,
        Err(why) => {
            tracing::debug!(uid = %names.uid, %client, %server, %why, "a DNS query is lost");
            "lost"
        }
    };
    metrics::counter!("weft_dns_queries_total", "how" => how).increment(1);
}

/// What tells the pod's rules that we live: a marked datagram over lo, by which they keep us in mind.
fn heart(netns: &Netns) -> io::Result<UdpSocket> {
    let socket = netns.run(|| Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(SO_MARK)?;
    Ok(socket.into())
}
