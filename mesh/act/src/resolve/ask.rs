//! Asking a name server (RFC 1035, RFC 6891): over UDP, and over TCP what does not fit.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{Ask, Found, Resolver};

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each is asked.
const ROUNDS: usize = 2;
/// Servers that count, as for every resolver.
const SERVERS: usize = 3;
/// Largest answer that we say we can take over UDP.
const PAYLOAD: u16 = 1232;
/// Addresses of a host that are looked at.
const ADDRESSES: usize = 64;
const PORT: u16 = 53;

impl Resolver {
    /// One that asks the name servers of this process (`/etc/resolv.conf`), whatever a pod itself would ask, and
    /// remembers at most so many names.
    pub fn of_the_process(most: usize) -> Self {
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self::new(over_network(name_servers(&resolv_conf)), most)
    }
}

/// The name servers of a `resolv.conf`.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().map(str::trim);
    let servers = lines.filter_map(|line| {
        let address = line.strip_prefix("nameserver")?.trim();
        let address = address.split('%').next()?.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(address, PORT))
    });
    servers.take(SERVERS).collect()
}

/// Asks these servers, each in turn.
pub fn over_network(servers: Vec<SocketAddr>) -> Ask {
    let servers: Arc<[SocketAddr]> = servers.into();
    Arc::new(move |host| Box::pin(ask(servers.clone(), host)))
}

async fn ask(servers: Arc<[SocketAddr]>, host: Arc<str>) -> Result<Found, String> {
    if servers.is_empty() {
        return Err(format!("{host} cannot be resolved: no name server is known"));
    }
    let (v4, v6) = tokio::join!(
        ask_for(&servers, &host, RecordType::A),
        ask_for(&servers, &host, RecordType::AAAA)
    );
    match (v4, v6) {
        (Err(why), Err(_)) => Err(why),
        (one, other) => {
            let mut all = [one, other].into_iter().filter_map(Result::ok).collect::<Vec<_>>();
            all.retain(|found| !found.addresses.is_empty());
            let life = all.iter().map(|found| found.life).min();
            let addresses: Vec<IpAddr> = all.into_iter().flat_map(|found| found.addresses).collect();
            match life {
                Some(life) => Ok(Found { addresses, life }),
                None => Err(format!("{host} has no address")),
            }
        }
    }
}

async fn ask_for(servers: &[SocketAddr], host: &str, kind: RecordType) -> Result<Found, String> {
    let unreadable = |_| format!("{host} is no name that can be asked for");
    let name = Name::from_ascii(format!("{host}.")).map_err(unreadable)?;
    let mut last = String::new();
    for _ in 0..ROUNDS {
        for server in servers {
            let question = Question {
                id: fastrand::u16(..),
                query: Query::query(name.clone(), kind),
            };
            match timeout(PATIENCE, question.ask(*server)).await {
                Ok(Ok(answer)) => match answer.metadata.response_code {
                    ResponseCode::NoError => return Ok(found(&answer)),
                    ResponseCode::NXDomain => return Err(format!("{host} does not exist, says {server}")),
                    other => last = format!("{host} is not resolved by {server}: {other}"),
                },
                Ok(Err(error)) => last = format!("{host} is not resolved by {server}: {error}"),
                Err(_) => last = format!("{host} is not resolved: {server} does not answer"),
            }
        }
    }
    Err(last)
}

/// The addresses of an answer, those of the names it leads to included.
pub(super) fn found(answer: &Message) -> Found {
    let addresses = answer.answers.iter().filter_map(|record| {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(Ipv4Addr::from(*address)),
            RData::AAAA(address) => IpAddr::V6(Ipv6Addr::from(*address)),
            _ => return None,
        };
        Some(address.to_canonical())
    });
    let life = answer.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
    Found {
        addresses: addresses.take(ADDRESSES).collect(),
        life: Duration::from_secs(life.into()),
    }
}

struct Question {
    id: u16,
    query: Query,
}

impl Question {
    async fn ask(&self, server: SocketAddr) -> io::Result<Message> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(io::Error::other)?;
        let answer = self.over_udp(server, &bytes).await?;
        match answer.metadata.truncation {
            true => self.over_tcp(server, &bytes).await,
            false => Ok(answer),
        }
    }

    /// From a port of its own, connected: only that server's answers come.
    async fn over_udp(&self, server: SocketAddr, bytes: &[u8]) -> io::Result<Message> {
        let own: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0)).await?;
        socket.connect(server).await?;
        socket.send(bytes).await?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = self.answered_by(buffer.get(..length).unwrap_or_default()) {
                return Ok(answer);
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr, bytes: &[u8]) -> io::Result<Message> {
        let mut socket = TcpStream::connect(server).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        socket.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
        let length = socket.read_u16().await?;
        let mut buffer = vec![0; length.into()];
        socket.read_exact(&mut buffer).await?;
        self.answered_by(&buffer)
            .ok_or_else(|| io::Error::other("it answers what was not asked"))
    }

    fn answered_by(&self, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let ours = answer.metadata.id == self.id && answer.metadata.message_type == MessageType::Response;
        let same = |query: &Query| query.name() == self.query.name() && query.query_type() == self.query.query_type();
        (ours && answer.queries.iter().any(same)).then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers of a server that knows `api.example`: the IPv4 one only over TCP, the IPv6 one through another name.
    fn answer(bytes: &[u8], tcp: bool) -> Vec<u8> {
        let asked = Message::from_vec(bytes).unwrap();
        let query = asked.queries[0].clone();
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.add_query(query.clone());
        let other = Name::from_ascii("other.example.").unwrap();
        match query.query_type() {
            _ if query.name().to_ascii() != "api.example." => {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            RecordType::A if !tcp => answer.metadata.truncation = true,
            RecordType::A => {
                let data = RData::A(Ipv4Addr::new(192, 0, 2, 7).into());
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            _ => {
                let alias = RData::CNAME(hickory_proto::rr::rdata::CNAME(other.clone()));
                answer.add_answer(Record::from_rdata(query.name().clone(), 30, alias));
                let data = RData::AAAA("2001:db8::7".parse::<Ipv6Addr>().unwrap().into());
                answer.add_answer(Record::from_rdata(other, 90, data));
            }
        }
        answer.to_vec().unwrap()
    }

    async fn server() -> SocketAddr {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(at).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                let real = answer(&buffer[..length], false);
                // What another would have it believe, first.
                let mut forged = real.clone();
                forged[0] ^= 1;
                udp.send_to(&forged, from).await.unwrap();
                udp.send_to(&real, from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = tcp.accept().await.unwrap();
                let length = socket.read_u16().await.unwrap();
                let mut bytes = vec![0; length.into()];
                socket.read_exact(&mut bytes).await.unwrap();
                let answer = answer(&bytes, true);
                socket.write_u16(answer.len() as u16).await.unwrap();
                socket.write_all(&answer).await.unwrap();
            }
        });
        at
    }

    #[tokio::test]
    async fn both_families_are_asked_for_and_what_is_cut_short_comes_over_tcp() {
        let ask = over_network(vec![server().await]);
        let found = ask("api.example".into()).await.unwrap();
        let expected: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(found.addresses, expected);
        assert_eq!(found.life, Duration::from_secs(30));
        let unknown = ask("gone.example".into()).await.unwrap_err();
        assert!(unknown.contains("does not exist"), "{unknown}");
    }

    #[tokio::test]
    async fn nobody_to_ask_is_said_so() {
        let why = over_network(Vec::new())("api.example".into()).await.unwrap_err();
        assert!(why.contains("no name server"), "{why}");
    }

    #[test]
    fn name_servers_are_read_as_every_resolver_reads_them() {
        let text = "search a.b\nnameserver 10.96.0.10\n nameserver fe80::1%eth0\n#nameserver 1.1.1.1\nnameserver x\n\
                    nameserver ::1\nnameserver 10.0.0.4\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fe80::1]:53", "[::1]:53"]);
    }
}
