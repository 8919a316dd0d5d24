//! A Unix SEQPACKET socket under tokio: one packet at a time, descriptors beside it. Every descriptor that
//! arrives is owned at once, so that none leaks whatever becomes of its packet.
//!
//! Tokio knows no SEQPACKET sockets; its stream sockets poll one as well, and are never read or written as such.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net as blocking,
    },
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use super::MAX_PACKET;

/// Room for descriptors of one packet: more than any message may have, so that too many are noticed.
pub const ROOM: usize = 16;

/// Connections that may wait to be accepted.
const QUEUE: i32 = 128;

/// A connected socket.
#[derive(Debug)]
pub struct Packets {
    socket: UnixStream,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
}

/// One packet and the descriptors that came with it.
#[derive(Debug)]
pub struct Received {
    /// The message; longer than [`MAX_PACKET`] when the packet was (cut after one byte more).
    pub packet: Vec<u8>,
    /// The descriptors; never more than [`ROOM`], further ones were closed by the kernel.
    pub descriptors: Vec<OwnedFd>,
}

impl Packets {
    /// Connects to a listening socket.
    ///
    /// # Errors
    /// As `connect(2)`: nobody listens, no such file, no permission.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = unix_socket()?;
        // a Unix connect does not wait: it succeeds, or fails (EAGAIN: the listener's queue is full)
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::new(socket)
    }

    /// Takes a connected, non-blocking SEQPACKET socket.
    ///
    /// # Errors
    /// When the runtime cannot poll it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: UnixStream::from_std(blocking::UnixStream::from(socket))?,
        })
    }

    /// Sends one packet, with or without a descriptor.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.send_with(packet, descriptor.as_slice()).await
    }

    /// Sends one packet and as many descriptors as there are, at most [`ROOM`].
    ///
    /// # Errors
    /// When the other side is gone, or there is no room.
    pub async fn send_with(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || send_now(self.socket.as_fd(), packet, descriptors);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// The user whose process made the other end.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(self.socket.peer_cred()?.uid())
    }

    /// Receives one packet; `None` at the end.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn receive(&self) -> io::Result<Option<Received>> {
        let receive = || receive_now(self.socket.as_fd());
        self.socket.async_io(Interest::READABLE, receive).await
    }
}

impl Listener {
    /// Listens at a path that does not exist yet, for the owner alone.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let socket = unix_socket()?;
        // the file gets the socket's own mode: nobody may connect between bind and a later chmod
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, QUEUE)?;
        Ok(Self {
            socket: UnixListener::from_std(blocking::UnixListener::from(socket))?,
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// As `accept(2)`.
    pub async fn accept(&self) -> io::Result<Packets> {
        let (socket, _) = self.socket.accept().await?;
        Ok(Packets { socket })
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn send_now(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for so many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<Option<Received>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut packet = vec![0; MAX_PACKET + 1];
    let read = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut packet)],
        &mut beside,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // an empty packet looks like the end, and is treated as one: no message is empty
    if read.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    packet.truncate(read.bytes);
    Ok(Some(Received { packet, descriptors }))
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
