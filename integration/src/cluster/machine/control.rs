//! Orders to a machine and its answers: one line of JSON each way over its Unix socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use act::process::Failure;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// The longest line either side reads.
const LONGEST: u64 = 1 << 20;
/// How long a machine may take to answer: a component that hears SIGTERM has 10 s before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Start a component that is stopped.
    Start(String),
    /// Stop a component: SIGTERM, 10 s later SIGKILL; it stays stopped. Answered when it has ended.
    Stop(String),
    /// As `Stop`, with SIGKILL at once.
    Kill(String),
    /// Say what runs.
    Status,
}

/// What a machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// It is done; its components after that.
    Done(Vec<Status>),
    /// It was not done, and why.
    Refused(String),
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Its name.
    pub(crate) name: String,
    /// Whether it runs.
    pub(crate) state: State,
    /// Its process id inside the machine.
    pub(crate) pid: Option<i32>,
    /// How often it ended unasked.
    pub(crate) deaths: u32,
}

/// Whether a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It runs.
    Running,
    /// It was told to end and has not yet.
    Stopping,
    /// It ended unasked and will be started again.
    Dead,
    /// It was stopped, or never started.
    Stopped,
}

/// A machine that is up, as seen from outside.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    stream: BufReader<UnixStream>,
    pid: Pid,
}

impl Machine {
    /// The machine behind a socket; `None` if none listens.
    pub(crate) fn find(name: &str, socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // Whoever listens is the machine's first process, and the kernel translates its number into our namespace.
        let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid;
        Some(Self {
            name: name.to_owned(),
            stream: BufReader::new(stream),
            pid,
        })
    }

    /// Its first process, as numbered outside.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Gives an order and waits for the answer.
    ///
    /// # Errors
    /// Why the machine refuses, or that it does not answer.
    pub(crate) fn order(&mut self, order: &Order) -> Result<Vec<Status>, Failure> {
        let name = self.name.clone();
        let silent = |error: &dyn std::fmt::Display| Failure(format!("{name} does not answer: {error}"));
        let line = serde_json::to_string(order).map_err(|error| silent(&error))?;
        writeln!(self.stream.get_mut(), "{line}").map_err(|error| silent(&error))?;
        let mut line = String::new();
        (&mut self.stream)
            .take(LONGEST)
            .read_line(&mut line)
            .map_err(|error| silent(&error))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Done(statuses)) => Ok(statuses),
            Ok(Answer::Refused(why)) => Err(Failure(format!("{name}: {why}"))),
            Err(_) if line.is_empty() => Err(silent(&"it went down")),
            Err(error) => Err(silent(&error)),
        }
    }
}

/// Reads orders of one connection until it ends, and writes what `answer` says to each.
pub(super) fn serve(stream: &UnixStream, mut answer: impl FnMut(Order) -> Answer) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read = (&mut lines).take(LONGEST).read_line(&mut line);
        if !matches!(read, Ok(length) if length > 0) {
            return;
        }
        let answer = match serde_json::from_str(&line) {
            Ok(order) => answer(order),
            Err(error) => Answer::Refused(format!("an order was not understood: {error}")),
        };
        let Ok(line) = serde_json::to_string(&answer) else {
            return;
        };
        if writeln!(&mut { stream }, "{line}").is_err() {
            return;
        }
    }
}
