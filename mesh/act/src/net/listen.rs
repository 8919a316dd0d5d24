//! Listening sockets.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::Netns;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What to listen on.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// Address and port. `[::]` takes both families, and falls back to `0.0.0.0` where IPv6 is off.
    pub address: SocketAddr,
    /// Also accept connections that are addressed to others (IP_TRANSPARENT; needs CAP_NET_ADMIN).
    pub transparent: bool,
    /// Others of our user may listen there too (SO_REUSEPORT): a successor, where we cannot hand it this socket.
    pub shared: bool,
}

impl Listen {
    /// A port on every address of both families.
    pub fn everywhere(port: u16) -> Self {
        Self {
            address: (Ipv6Addr::UNSPECIFIED, port).into(),
            transparent: false,
            shared: false,
        }
    }

    /// The same, beside a process that cannot hand over its own socket.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }
}

/// Listens inside a namespace. The socket does not block, so that it may be handed to a runtime, or to a
/// successor process. Accepted sockets inherit TCP_NODELAY.
///
/// # Errors
/// One plain sentence naming the address: taken, or a privilege is missing.
pub fn listen(netns: &Netns, listen: Listen) -> io::Result<TcpListener> {
    let made = netns.run(|| match bind(listen) {
        Err(error) if listen.address.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6(&error) => bind(Listen {
            address: (Ipv4Addr::UNSPECIFIED, listen.address.port()).into(),
            ..listen
        }),
        made => made,
    });
    made.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "another program has it; stop that one or choose another port",
            io::ErrorKind::PermissionDenied => {
                "a privilege is missing: CAP_NET_ADMIN, or CAP_NET_BIND_SERVICE below 1024"
            }
            _ => "see the error",
        };
        io::Error::new(
            error.kind(),
            format!("cannot listen on {}: {error}; {remedy}", listen.address),
        )
    })
}

fn bind(listen: Listen) -> io::Result<TcpListener> {
    let v6 = listen.address.is_ipv6();
    let socket = Socket::new(Domain::for_address(listen.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if listen.shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if v6 {
        socket.set_only_v6(listen.address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    if listen.transparent {
        if v6 {
            socket.set_ip_transparent_v6(true)?;
        }
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&listen.address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_takes_ipv4_clients() {
        let listener = listen(&Netns::own(), Listen::everywhere(0)).expect("listens");
        let port = listener.local_addr().expect("bound").port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 is taken");
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = Listen {
            address: "127.0.0.1:0".parse().expect("an address"),
            transparent: false,
            shared: false,
        };
        let taken = listen(&Netns::own(), first).expect("listens");
        let again = Listen {
            address: taken.local_addr().expect("bound"),
            transparent: false,
            shared: false,
        };
        let error = listen(&Netns::own(), again).expect_err("taken").to_string();
        assert!(
            error.contains(&again.address.to_string()) && error.contains("another program"),
            "{error}"
        );
    }

    #[test]
    fn a_port_is_shared_only_where_both_say_so() {
        let first = listen(&Netns::own(), Listen::everywhere(0).shared()).expect("listens");
        let again = Listen::everywhere(first.local_addr().expect("bound").port());
        listen(&Netns::own(), again).expect_err("taken");
        listen(&Netns::own(), again.shared()).expect("shared");
    }
}
