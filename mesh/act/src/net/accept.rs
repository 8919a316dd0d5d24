//! Accepting connections, through shortages.

use std::{io, net::SocketAddr, time::Duration};

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::options::canonical;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections. Where descriptors or memory run out it pauses, longer each time, instead of spinning
/// or dying; `weft_accept_pauses_total` counts that.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    pause: Duration,
    port: u16,
}

impl Acceptor {
    /// Accepts from this listener; `port` labels the metric.
    ///
    /// # Errors
    /// Outside a runtime, or when the socket is none.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            pause: FIRST_PAUSE,
            port,
        })
    }

    /// The next connection, and the address it came from. Cancel safe.
    ///
    /// # Errors
    /// Only when the listening socket itself is unusable: the listener is to be given up.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            match self.listener.accept().await {
                Ok((socket, from)) => {
                    self.pause = FIRST_PAUSE;
                    return Ok((socket, canonical(from)));
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        // Not held: one that falls silent for long leads nowhere.
                        metrics::counter!("weft_accept_pauses_total", "port" => self.port.to_string()).increment(1);
                        tracing::warn!(%error, pause = ?self.pause, "cannot accept for want of descriptors or memory");
                        tokio::time::sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    }
                    Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                        return Err(error);
                    }
                    // The connection died while it waited (accept(2) passes its errors on): take the next.
                    _ => tokio::task::yield_now().await,
                },
            }
        }
    }

    /// The listening socket, to hand to a successor.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }
}

/// Where the client of a redirected connection meant to go; where nothing was redirected, the address it
/// reached.
///
/// # Errors
/// When the socket is gone already.
pub fn original_destination(socket: &TcpStream) -> io::Result<SocketAddr> {
    let local = canonical(socket.local_addr()?);
    let asked = SockRef::from(socket);
    let original = if local.is_ipv4() {
        asked.original_dst_v4()
    } else {
        asked.original_dst_v6()
    };
    Ok(original
        .ok()
        .and_then(|address| address.as_socket())
        .map_or(local, canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_redirection_the_original_destination_is_the_local_address() {
        let mut acceptor =
            Acceptor::new(std::net::TcpListener::bind("127.0.0.1:0").expect("loopback")).expect("in a runtime");
        let to = acceptor.listener().local_addr().expect("bound");
        let client = TcpStream::connect(to).await.expect("connects");
        let (socket, from) = acceptor.accept().await.expect("accepts");
        assert_eq!(from, client.local_addr().expect("bound"));
        assert_eq!(original_destination(&socket).expect("alive"), to);
    }

    const STARVED: &str = "WEFT_TEST_STARVED";

    /// The limit holds for a whole process, so it is one of its own that starves.
    #[test]
    fn without_descriptors_accepting_slows_down_and_goes_on_where_it_stopped() {
        if std::env::var_os(STARVED).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            return runtime.expect("a runtime").block_on(starve());
        }
        let name = "net::accept::tests::without_descriptors_accepting_slows_down_and_goes_on_where_it_stopped";
        let ran = std::process::Command::new(std::env::current_exe().expect("a test"))
            .args(["--exact", name, "--nocapture"])
            .env(STARVED, "1")
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&ran.stdout);
        let complained = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && said.contains("1 passed"),
            "{said}\n{complained}"
        );
    }

    async fn starve() {
        const CLIENTS: usize = 16;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let to = listener.local_addr().expect("bound");
        let mut acceptor = Acceptor::new(listener).expect("in a runtime");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| std::net::TcpStream::connect(to).expect("the queue has room"))
            .collect();
        // A parent may leave descriptors open anywhere: what counts is how many below the limit are free.
        let open = std::fs::read_dir("/proc/self/fd").expect("readable");
        let open: std::collections::BTreeSet<u64> = open
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let last = (0..).filter(|descriptor| !open.contains(descriptor)).nth(3);
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = last.map(|last| last + 1);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lower is allowed");
        let mut accepted = Vec::new();
        let soon = Duration::from_secs(1);
        while let Ok(socket) = tokio::time::timeout(soon, acceptor.accept()).await {
            accepted.push(socket.expect("the listener lives"));
        }
        assert!((1..CLIENTS).contains(&accepted.len()), "{} accepted", accepted.len());
        assert!(
            acceptor.pause > FIRST_PAUSE * 4,
            "it rests longer each time: {:?}",
            acceptor.pause
        );
        let mut all = accepted.len();
        drop(accepted);
        while all < CLIENTS {
            let socket = tokio::time::timeout(Duration::from_secs(20), acceptor.accept()).await;
            drop(socket.expect("it goes on").expect("the listener lives"));
            all += 1;
        }
        assert_eq!(acceptor.pause, FIRST_PAUSE);
        drop(clients);
    }
}
