//! Queries that are not ours, on their way to the server they were sent to, and its answers on their way back.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use act::net::Netns;
use decide::model::SO_MARK;
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{net::UdpSocket, time::timeout};

use super::sockets::answering_as;
use crate::traffic::bounds::QUERIES;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a conversation stays open when every query has its answer.
const LINGER: Duration = Duration::from_millis(250);
/// Servers answered for at a time; beyond, their sockets are made anew, and nothing is lost but time. No pod asks so many.
const SERVERS: usize = 64;
/// Largest datagram.
const LARGEST: usize = 65_535;

type Key = (SocketAddr, SocketAddr);
type Running = Pin<Box<dyn Future<Output = Key>>>;

/// The open conversations of one pod, by client and server.
pub(super) struct Flows {
    netns: Netns,
    /// Conversations that may be open at a time.
    most: usize,
    open: HashMap<Key, Flow>,
    running: FuturesUnordered<Running>,
    answering: HashMap<SocketAddr, Rc<StdSocket>>,
    scratch: Rc<RefCell<Vec<u8>>>,
}

struct Flow {
    upstream: Rc<UdpSocket>,
    unanswered: Rc<Cell<usize>>,
}

impl Flows {
    pub(super) fn new(netns: Netns, most: usize) -> Self {
        Self {
            netns,
            most,
            open: HashMap::new(),
            running: FuturesUnordered::new(),
            answering: HashMap::new(),
            scratch: Rc::new(RefCell::new(vec![0; LARGEST])),
        }
    }

    /// Sends a query on, as it came.
    ///
    /// # Errors
    /// When it is lost: too many are open, or no socket is to be had. The client asks again.
    pub(super) fn forward(&mut self, client: SocketAddr, server: SocketAddr, query: &[u8]) -> io::Result<()> {
        let key = (client, server);
        if !self.open.contains_key(&key) {
            self.begin(key)?;
        }
        if let Some(flow) = self.open.get(&key) {
            // Past the runtime, which knows of a fresh socket only later that it may be written.
            SockRef::from(&*flow.upstream).send(query)?;
            flow.unanswered.set(flow.unanswered.get() + 1);
        }
        Ok(())
    }

    /// Answers in a server's name.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(super) fn answer(&mut self, client: SocketAddr, server: SocketAddr, answer: &[u8]) -> io::Result<()> {
        self.answering(server)?.send_to(answer, client).map(drop)
    }

    /// Moves answers, and forgets conversations that are over. For ever; cancel safe.
    pub(super) async fn run(&mut self) {
        while let Some(key) = self.running.next().await {
            self.open.remove(&key);
        }
        std::future::pending().await
    }

    /// As [`Flows::run`], until every conversation is over. Bounded: none lasts for ever that nobody adds to.
    pub(super) async fn finish(mut self) {
        while self.running.next().await.is_some() {}
    }

    fn begin(&mut self, key: Key) -> io::Result<()> {
        if self.open.len() >= self.most {
            return Err(io::Error::other(QUERIES.told(self.most)));
        }
        let (client, server) = key;
        let answering = self.answering(server)?;
        let upstream = Rc::new(connected(&self.netns, server)?);
        let unanswered = Rc::new(Cell::new(0));
        self.open.insert(
            key,
            Flow {
                upstream: upstream.clone(),
                unanswered: unanswered.clone(),
            },
        );
        let scratch = self.scratch.clone();
        self.running.push(Box::pin(async move {
            // ended by a server that refuses, or by nobody needing it any more
            while let Some(length) = next(&upstream, &unanswered, &scratch).await {
                unanswered.set(unanswered.get().saturating_sub(1));
                let _ = answering.send_to(scratch.borrow().get(..length).unwrap_or_default(), client);
            }
            key
        }));
        Ok(())
    }

    fn answering(&mut self, server: SocketAddr) -> io::Result<Rc<StdSocket>> {
        if let Some(socket) = self.answering.get(&server) {
            return Ok(socket.clone());
        }
        if self.answering.len() >= SERVERS {
            self.answering.clear();
        }
        let socket = Rc::new(answering_as(&self.netns, server)?);
        self.answering.insert(server, socket.clone());
        Ok(socket)
    }
}

/// The next answer, in the scratch buffer: how long it is.
async fn next(upstream: &UdpSocket, unanswered: &Cell<usize>, scratch: &RefCell<Vec<u8>>) -> Option<usize> {
    loop {
        let patience = if unanswered.get() == 0 { LINGER } else { PATIENCE };
        match timeout(patience, upstream.readable()).await {
            Ok(ready) => ready.ok()?,
            // a query that came meanwhile has its own time
            Err(_) if patience == LINGER && unanswered.get() > 0 => continue,
            Err(_) => return None,
        }
        match upstream.try_recv(&mut scratch.borrow_mut()) {
            Ok(length) => return Some(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// A socket of ours towards a server, past every redirection.
fn connected(netns: &Netns, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = netns.run(|| Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP)))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(SO_MARK)?;
    socket.connect(&server.into())?;
    UdpSocket::from_std(socket.into())
}
