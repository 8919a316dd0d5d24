//! What every TCP socket of ours is set to, accepted or dialled.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Options of a connected TCP socket. TCP_NODELAY is no option: it is always set, since without it one
/// stream falls to a third and new connections to a tenth.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// Silence after which keepalive probes start.
    pub keepalive_idle: Duration,
    /// Time between probes.
    pub keepalive_interval: Duration,
    /// Probes without answer after which the connection is dead.
    pub keepalive_probes: u32,
    /// How long sent data may stay unacknowledged before the connection is dead (TCP_USER_TIMEOUT).
    pub user_timeout: Duration,
    /// Congestion control, such as `cubic`; `None`: the host's. Best effort: a kernel without it keeps its own.
    pub congestion: Option<Arc<str>>,
}

/// Congestion control of hops inside one host.
const LOCAL: &str = "cubic";

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keepalive_idle: Duration::from_secs(180),
            keepalive_interval: Duration::from_secs(30),
            keepalive_probes: 4,
            user_timeout: Duration::from_secs(60),
            congestion: None,
        }
    }
}

impl SocketOptions {
    /// These options with congestion control for hops inside one host, where there is no loss to learn from
    /// and pacing only costs CPU.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.congestion = Some(LOCAL.into());
        self
    }

    /// Sets congestion control as [`SocketOptions::local`] does on a socket whose other end is on this host.
    pub fn set_local(socket: &impl AsFd) {
        // As below: asked for, not needed.
        let _ = SockRef::from(socket).set_tcp_congestion(LOCAL.as_bytes());
    }

    /// Sets everything on a socket.
    ///
    /// # Errors
    /// When TCP_NODELAY or the timers are refused, which only a dead socket does.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_probes);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        if let Some(congestion) = &self.congestion {
            // Asked for, not needed: where the module is missing, the host's own choice does as well.
            let _ = socket.set_tcp_congestion(congestion.as_bytes());
        }
        Ok(())
    }
}

/// Closes a connection so that its other side sees a reset, not an orderly end.
pub fn reset(socket: TcpStream) {
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// The address itself, where a dual-stack socket says it as IPv4-mapped.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connects");
        (client, listener.accept().await.expect("accepts").0)
    }

    #[tokio::test]
    async fn every_socket_has_nodelay_keepalive_and_user_timeout() {
        let (client, _server) = pair().await;
        SocketOptions::default().apply(&client).expect("applies");
        let socket = SockRef::from(&client);
        assert!(client.nodelay().expect("asks"));
        assert!(socket.keepalive().expect("asks"));
        assert_eq!(socket.tcp_user_timeout().expect("asks"), Some(Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn unknown_congestion_control_is_no_error() {
        let (client, _server) = pair().await;
        let options = SocketOptions {
            congestion: Some("no-such-algorithm".into()),
            ..SocketOptions::default()
        };
        options.apply(&client).expect("applies");
    }

    #[tokio::test]
    async fn hops_inside_the_host_do_without_pacing() {
        let (client, server) = pair().await;
        SocketOptions::set_local(&client);
        SocketOptions::default().local().apply(&server).expect("applies");
        for socket in [client, server] {
            let congestion = SockRef::from(&socket).tcp_congestion().expect("asks");
            assert!(congestion.starts_with(LOCAL.as_bytes()), "{congestion:?}");
        }
    }

    #[tokio::test]
    async fn reset_is_seen_as_a_reset() {
        let (client, mut server) = pair().await;
        reset(client);
        let error = server.read_u8().await.expect_err("no orderly end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
