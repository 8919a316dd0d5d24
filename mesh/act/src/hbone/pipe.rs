//! Pipes that carry bulk between two sockets past us, uncopied (splice(2)). A worker lends each for as long as bytes
//! are in it, and keeps a few empty ones.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

/// What a pipe is asked to hold, in bytes. The kernel may give less.
pub(super) const PIPE: usize = 1 << 20;
/// Empty pipes a worker keeps.
const KEPT: usize = 16;

thread_local! {
    static WORKER: RefCell<Worker> = const { RefCell::new(Worker { idle: Vec::new(), lent: 0 }) };
}

/// The pipes of one worker.
struct Worker {
    idle: Vec<Ends>,
    lent: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe, lent until dropped. One that is dropped with bytes in it is closed, and they are lost.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// One of at most `most` that the worker has lent at a time; `None`: there is none to be had, by that bound or
    /// the process' own on descriptors.
    pub(super) fn take(most: usize) -> Option<Self> {
        let ends = WORKER.with_borrow_mut(|worker| {
            if worker.lent >= most {
                return None;
            }
            let ends = match worker.idle.pop() {
                Some(ends) => ends,
                None => make().ok()?,
            };
            worker.lent += 1;
            Some(ends)
        });
        ends.map(|ends| Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes in what a socket has, up to `most` bytes, while the pipe is empty; zero at the end of its stream.
    pub(super) fn fill(&mut self, from: &impl AsFd, most: usize) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(from, None, &ends.write, None, most, flags())?;
        self.held += moved;
        Ok(moved)
    }

    /// Passes on what another socket takes.
    pub(super) fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(&ends.read, None, to, None, self.held, flags())?;
        self.held -= moved;
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.held == 0);
        WORKER.with_borrow_mut(|worker| {
            worker.lent -= 1;
            if worker.idle.len() < KEPT {
                worker.idle.extend(ends);
            }
        });
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

fn make() -> Result<Ends, Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Beyond what one user may have, the kernel refuses; the usual 64 KiB work as well, only slower.
    let _ = fcntl_setpipe_size(&write, PIPE);
    Ok(Ends { read, write })
}

/// Pipes this worker has made and kept.
#[cfg(test)]
pub(super) fn kept() -> usize {
    WORKER.with_borrow(|worker| worker.idle.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_lent_are_bounded_and_those_given_back_are_used_again() {
        let lent: Vec<Pipe> = (0..20).map_while(|_| Pipe::take(20)).collect();
        assert_eq!(lent.len(), 20);
        assert!(Pipe::take(20).is_none(), "one too many");
        assert!(Pipe::take(0).is_none());
        drop(lent);
        assert_eq!(kept(), KEPT);
        assert!(Pipe::take(1).is_some());
        assert_eq!(kept(), KEPT, "no new one was made");
    }
}
