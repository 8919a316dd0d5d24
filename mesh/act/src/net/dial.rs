//! Outgoing connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{Netns, SocketOptions};

/// Makes outgoing TCP connections of one pod, or of this process.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// Where the sockets live.
    pub netns: Netns,
    /// SO_MARK of every socket, so that no redirection takes it (needs CAP_NET_ADMIN); `None`: unmarked.
    pub mark: Option<u32>,
    /// What the sockets are set to.
    pub options: SocketOptions,
}

impl Dialer {
    /// A dialer of this process itself, unmarked: for proxies that nothing redirects.
    pub fn own() -> Self {
        Self {
            netns: Netns::own(),
            mark: None,
            options: SocketOptions::default(),
        }
    }

    /// Connects. Bound the time outside; dropping the future gives up.
    ///
    /// # Errors
    /// As `connect(2)`; also when the namespace is gone.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.open(to, None)?.connect(to).await
    }

    /// Connects from another's address (IP_TRANSPARENT; needs CAP_NET_ADMIN), with a port of the kernel's
    /// choice: the destination sees its client, not us. Addresses of different families cannot be kept;
    /// then as [`Dialer::connect`].
    ///
    /// # Errors
    /// As [`Dialer::connect`].
    pub async fn connect_from(&self, source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let source = source.to_canonical();
        let source = (source.is_ipv4() == to.is_ipv4()).then_some(source);
        self.open(to, source)?.connect(to).await
    }

    fn open(&self, to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
        let socket = self
            .netns
            .run(|| Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        self.options.apply(&socket)?;
        match source {
            // Nothing foreign about a loopback source: the kernel routes it only to itself.
            Some(source) if source.is_loopback() => bind(&socket, source)?,
            Some(source) => {
                if source.is_ipv4() {
                    socket.set_ip_transparent_v4(true)?;
                    socket.set_freebind_v4(true)?;
                } else {
                    socket.set_ip_transparent_v6(true)?;
                    socket.set_freebind_v6(true)?;
                }
                bind(&socket, source)?;
            }
            None => {}
        }
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// Takes an address, and leaves the port to `connect(2)`: chosen with the destination known, a port serves once for
/// each destination. Chosen here it would serve one alone, and a client's address has but 28,000.
fn bind(socket: &Socket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn dialled_sockets_are_tuned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let socket = Dialer::own()
            .connect(listener.local_addr().expect("bound"))
            .await
            .expect("connects");
        assert!(socket.nodelay().expect("asks"));
    }

    #[tokio::test]
    async fn the_source_address_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let to = listener.local_addr().expect("bound");
        let source: IpAddr = "127.0.0.77".parse().expect("an address");
        let _socket = Dialer::own().connect_from(source, to).await.expect("connects");
        let (_, seen) = listener.accept().await.expect("accepts");
        assert_eq!(seen.ip(), source);
    }

    #[tokio::test]
    async fn a_port_of_a_clients_address_is_not_taken_before_the_destination_is_known() {
        let to = "127.0.0.1:9".parse().expect("an address");
        let socket = Dialer::own().open(to, Some("127.0.0.77".parse().expect("an address")));
        assert_eq!(socket.expect("opens").local_addr().expect("bound").port(), 0);
    }
}
