//! Reading and ending a socket, with one large buffer per thread: a connection holds none of its own while
//! nothing flows (design 12).

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::Shutdown,
};

use rustix::{
    io::{readv, writev},
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::courtesy::rest;

/// Size of the buffer, in bytes: what one read may bring.
pub(super) const SCRATCH: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer. Not to be nested.
pub(super) fn scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_empty() {
            buffer.resize(SCRATCH, 0);
        }
        work(buffer)
    })
}

/// Reads what is there: zero bytes at the end, `None` when there is nothing yet.
pub(super) fn read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let room = buffer.len();
    came(socket, room, || Ok(recv(socket, buffer, RecvFlags::empty())?.1))
}

/// As [`read`], into pieces one after the other. One piece alone, as messages have, costs the kernel less by itself.
pub(super) fn read_slices(socket: &TcpStream, slices: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
    if let [one] = slices {
        return read(socket, one);
    }
    let room = slices.iter().map(|slice| slice.len()).sum();
    came(socket, room, || Ok(readv(socket, slices)?))
}

fn came(socket: &TcpStream, room: usize, read: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
    let mut length = None;
    let read = socket.try_io(Interest::READABLE, || {
        let read = read()?;
        length = Some(read);
        if read > 0 && read < room {
            // A read that does not fill the buffer has emptied the socket: say so, and spare the call that would
            // find that out. The end of the stream is remembered apart from that and not lost.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match (length, read) {
        (Some(length), _) => Ok(Some(length)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Ok(None),
    }
}

/// Writes what the socket takes at once; `None` when that is nothing yet.
pub(super) fn write(socket: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    written(socket, bytes.len(), || Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
}

/// As [`write()`], of pieces one after the other; one alone as in [`read_slices`].
pub(super) fn write_slices(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    if let [one] = slices {
        return write(socket, one);
    }
    let bytes = slices.iter().map(|slice| slice.len()).sum();
    written(socket, bytes, || Ok(writev(socket, slices)?))
}

fn written(socket: &TcpStream, bytes: usize, write: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
    let mut length = None;
    let result = socket.try_io(Interest::WRITABLE, || {
        let written = write()?;
        rest::said(written);
        length = Some(written);
        if written < bytes {
            // It has taken what it can: spare the call that would find that out.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match (length, result) {
        (Some(length), _) => Ok(Some(length)),
        (None, Err(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Ok(None),
    }
}

/// Ends our direction in order.
pub(super) fn finish(socket: &TcpStream) -> io::Result<()> {
    match SockRef::from(socket).shutdown(Shutdown::Write) {
        // Reset by the other side meanwhile; its own direction tells.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        shut => shut,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_counts_as_said_before_the_thread_rests() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        socket.writable().await.unwrap();
        let before = rest::unanswered();
        assert_eq!(write(&socket, b"one").unwrap(), Some(3));
        let two = [IoSlice::new(b"t"), IoSlice::new(b"wo")];
        assert_eq!(write_slices(&socket, &two).unwrap(), Some(3));
        assert_eq!(rest::unanswered(), before + 2);
    }
}
