//! A name asked for over TCP (RFC 7766). A connection whose first query is ours is answered here; every other goes on
//! untouched, as what was looked at is only looked at.

use std::time::Duration;

use act::net::reset;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::Names;

/// Longest query that is looked at: a name, its question and some options.
const LONGEST: usize = 4096;
/// How long the first query may take to be whole; a client that says nothing waits for its server to speak first.
const FIRST: Duration = Duration::from_millis(250);
/// How often a query that is not whole is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Answers a connection to a name server, if its first query is ours. Gives it back otherwise.
pub async fn serve(names: &Names, mut socket: TcpStream) -> Option<TcpStream> {
    match timeout(FIRST, first(&socket)).await {
        Ok(Some(query)) if names.answer(&query).is_some() => {}
        _ => return Some(socket),
    }
    loop {
        let answered = timeout(IDLE, async {
            let length = usize::from(socket.read_u16().await.ok()?);
            let mut query = vec![0; length];
            socket.read_exact(&mut query).await.ok()?;
            // a name that is not ours is for a connection of its own: this one ends, and the client asks again
            let answer = names.answer(&query)?;
            let head = u16::try_from(answer.len()).ok()?.to_be_bytes();
            socket.write_all(&[&head, answer.as_slice()].concat()).await.ok()
        });
        match answered.await {
            Ok(Some(())) => metrics::counter!("weft_dns_queries_total", "how" => "answered").increment(1),
            Ok(None) => break,
            Err(_) => {
                reset(socket);
                return None;
            }
        }
    }
    let _ = socket.shutdown().await;
    None
}

/// The first query, which stays in the socket; `None` when it is too long, or the client ended.
async fn first(socket: &TcpStream) -> Option<Vec<u8>> {
    let mut buffer = vec![0; LONGEST + 2];
    loop {
        let length = socket.peek(&mut buffer).await.ok()?;
        if length == 0 {
            return None;
        }
        if let Some((head, rest)) = buffer.get(..length)?.split_first_chunk::<2>() {
            let whole = usize::from(u16::from_be_bytes(*head));
            if whole > LONGEST {
                return None;
            }
            if let Some(query) = rest.get(..whole) {
                return Some(query.to_vec());
            }
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use act::{config::Reader, net::Netns};
    use decide::{
        model::{Capture, Fence, Identity, Labels, MeshSettings, Phase, Workload},
        snapshot::Snapshot,
    };
    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query},
        rr::{Name, RecordType},
    };
    use tokio::net::TcpListener;

    use super::{super::payments::payments, *};

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let query = message.to_vec().unwrap();
        let head = u16::try_from(query.len()).unwrap().to_be_bytes();
        [&head, query.as_slice()].concat()
    }

    /// A pod in whose namespace `payments.example` is ours.
    fn names() -> Names {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        snapshot.put_workload(Arc::new(Workload {
            uid: "pod".into(),
            name: "pod".into(),
            namespace: "shop".into(),
            node: "n1".into(),
            identity: Identity::new("cluster.local", "shop", "cart").unwrap(),
            addresses: vec![],
            labels: Labels::default(),
            owner: "pod".into(),
            ports: vec![],
            probed: vec![],
            capture: Capture::Captured,
            fence: Fence::Absent,
            phase: Phase::Ready,
            waypoint: None,
            serves: None,
            services: vec![],
            policies: Arc::default(),
        }));
        let service = payments();
        let owner = Some(service.key.clone());
        snapshot
            .external
            .own_host(service.scope(), &"payments.example".into(), owner);
        snapshot.external.put(Arc::new(service));
        Names {
            uid: "pod".into(),
            reader: Reader::new(snapshot).1,
            netns: Netns::own(),
            queries: 100,
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_name_of_ours_is_answered_over_tcp_and_the_next_one_too() {
        let (mut client, server) = pair().await;
        let serving = tokio::spawn(async move { serve(&names(), server).await.is_none() });
        for _ in 0..2 {
            let query = query("payments.example.");
            let (half, rest) = query.split_at(5);
            client.write_all(half).await.unwrap();
            client.write_all(rest).await.unwrap();
            let length = client.read_u16().await.unwrap();
            let mut answer = vec![0; length.into()];
            client.read_exact(&mut answer).await.unwrap();
            assert!(answer.ends_with(&[240, 0, 0, 7]), "{answer:?}");
        }
        client.write_all(&query("web.shop.svc.")).await.unwrap();
        assert_eq!(
            client.read(&mut [0; 9]).await.unwrap(),
            0,
            "to be asked on another connection"
        );
        assert!(serving.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_not_ours_goes_on_with_every_byte() {
        for said in [
            query("web.shop.svc."),
            b"\xff\xffx".to_vec(),
            b"\0\x03abc".to_vec(),
            vec![0],
        ] {
            let (mut client, server) = pair().await;
            client.write_all(&said).await.unwrap();
            let mut back = serve(&names(), server).await.expect("it goes on");
            let mut seen = vec![0; said.len()];
            back.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, said);
        }
    }
}
