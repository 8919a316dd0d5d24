//! UDP sockets inside a pod that take what was sent to others, and answer in their name (IP_TRANSPARENT).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

use act::net::Netns;
use decide::model::SO_MARK;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4OrigDstAddr, Ipv6OrigDstAddr},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket as AsyncSocket};

/// A datagram that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// How long it is, in bytes.
    pub(super) length: usize,
    /// Who sent it.
    pub(super) client: SocketAddr,
    /// To whom.
    pub(super) server: SocketAddr,
}

/// A socket that datagrams to others arrive on.
#[derive(Debug)]
pub(super) struct Taker {
    socket: AsyncSocket,
}

impl Taker {
    /// Takes from a socket that [`receiving`] opened, here or in another process, which may take from it as well.
    ///
    /// # Errors
    /// When descriptors run out.
    pub(super) fn over(socket: &UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket: AsyncSocket::from_std(socket.try_clone()?)?,
        })
    }

    /// A datagram that is there already.
    pub(super) fn take_now(&self, buffer: &mut [u8]) -> Option<Taken> {
        receive(&self.socket, buffer).ok().flatten()
    }

    /// The next datagram; what is longer than the buffer is cut. Cancel safe.
    ///
    /// # Errors
    /// When the socket is of no use any more.
    pub(super) async fn take(&self, buffer: &mut [u8]) -> io::Result<Taken> {
        loop {
            let taken = self
                .socket
                .async_io(Interest::READABLE, || receive(&self.socket, buffer))
                .await?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }
}

/// A socket for datagrams to others, on this port in a namespace, for one family. Several processes may have the port
/// open at a time.
///
/// # Errors
/// As `bind(2)`; a privilege is missing (CAP_NET_ADMIN), or the family is off.
pub(super) fn receiving(netns: &Netns, family: Domain, port: u16) -> io::Result<UdpSocket> {
    let address: IpAddr = match family {
        Domain::IPV6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = transparent(netns, (address, port).into())?;
    match address {
        IpAddr::V4(_) => setsockopt(&socket, Ipv4OrigDstAddr, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, Ipv6OrigDstAddr, &true)?,
    }
    Ok(socket)
}

/// A socket that answers as `server`.
///
/// # Errors
/// As `bind(2)`.
pub(super) fn answering_as(netns: &Netns, server: SocketAddr) -> io::Result<UdpSocket> {
    transparent(netns, server)
}

fn transparent(netns: &Netns, address: SocketAddr) -> io::Result<UdpSocket> {
    netns.run(|| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_mark(SO_MARK)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv4() {
            socket.set_ip_transparent_v4(true)?;
        } else {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

/// One datagram; `None` for one whose addresses are not told.
fn receive(socket: &AsyncSocket, buffer: &mut [u8]) -> io::Result<Option<Taken>> {
    let mut space = nix::cmsg_space!(SockaddrStorage);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    )?;
    let client = received.address.as_ref().and_then(address);
    let server = received.cmsgs()?.find_map(|message| original(&message));
    let length = received.bytes;
    Ok(client
        .zip(server)
        .map(|(client, server)| Taken { length, client, server }))
}

fn address(told: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = told.as_sockaddr_in().map(|it| SocketAddrV4::from(*it).into());
    v4.or_else(|| told.as_sockaddr_in6().map(|it| SocketAddrV6::from(*it).into()))
}

fn original(message: &ControlMessageOwned) -> Option<SocketAddr> {
    Some(match message {
        ControlMessageOwned::Ipv4OrigDstAddr(told) => SocketAddr::new(
            Ipv4Addr::from(u32::from_be(told.sin_addr.s_addr)).into(),
            u16::from_be(told.sin_port),
        ),
        ControlMessageOwned::Ipv6OrigDstAddr(told) => SocketAddr::new(
            Ipv6Addr::from(told.sin6_addr.s6_addr).into(),
            u16::from_be(told.sin6_port),
        ),
        _ => return None,
    })
}
