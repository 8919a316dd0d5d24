//! Programs that run on: each with its log, its end noticed, killed with the world.

use std::{
    fs,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use act::process::Failure;
use tokio::process::{Child, Command};

/// How a program is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What it is called in messages.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Where standard output and standard error go, appended.
    pub log: PathBuf,
}

/// A started program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    killed: bool,
}

impl Launch {
    /// Starts it.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    pub fn start(self) -> Result<Process, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be started: {error}", self.name));
        let (program, args) = self.words.split_first().ok_or_else(|| failed(&"it has no command"))?;
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.log)
            .map_err(|error| failed(&format_args!("{}: {error}", self.log.display())))?;
        let log_too = log.try_clone().map_err(|error| failed(&error))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&format_args!("{program}: {error}")))?;
        Ok(Process {
            launch: self,
            child,
            killed: false,
        })
    }
}

/// How far the ports of a process that runs beside another of its kind are from that one's.
const BESIDE: u16 = 1000;

impl Launch {
    /// How to start its successor while it still runs: with other ports and another socket of its own. The successor's
    /// successor has the first ones again.
    #[must_use]
    pub fn beside(&self) -> Self {
        let words = self.words.iter().map(|word| match word.split_once('=') {
            Some((flag @ ("--admin" | "--metrics" | "--ready"), at)) => format!("{flag}={}", moved(at)),
            Some((flag @ "--admin-socket", path)) => match path.strip_suffix(".next") {
                Some(first) => format!("{flag}={first}"),
                None => format!("{flag}={path}.next"),
            },
            _ => word.clone(),
        });
        Self {
            words: words.collect(),
            ..self.clone()
        }
    }

    /// Its admin socket.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        let path = self.words.iter().find_map(|word| word.strip_prefix("--admin-socket="));
        path.map(PathBuf::from)
    }
}

/// `host:port` with the port of a process beside.
fn moved(at: &str) -> String {
    let Some((host, port)) = at.rsplit_once(':') else {
        return at.to_owned();
    };
    match port.parse::<u16>() {
        Ok(port) if port >= 16_000 => format!("{host}:{}", port - BESIDE),
        Ok(port) => format!("{host}:{}", port + BESIDE),
        Err(_) => at.to_owned(),
    }
}

impl Process {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its process id, while it runs. The programs that lead into a namespace replace themselves, so this is
    /// the program's own.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it did and was not killed by us.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten().filter(|_| !self.killed)
    }

    /// One sentence for a process that should be running and is not, with its last words.
    pub fn obituary(&self, status: ExitStatus) -> Failure {
        let said = fs::read_to_string(&self.launch.log).unwrap_or_default();
        let last = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("nothing");
        Failure(format!(
            "{} ended ({status}); its last words: {last} (all of them in {})",
            self.launch.name,
            self.launch.log.display()
        ))
    }

    /// Kills it, and what it started, with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self) {
        self.killed = true;
        if let Some(group) = self.process_id() {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill().await;
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        if let Some(pid) = self.process_id() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn process_id(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.child.id()?.cast_signed())
    }

    /// How to start it again.
    pub fn launch(&self) -> Launch {
        self.launch.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_collides_with_nothing_and_its_own_is_as_the_first() {
        let words = [
            "ztunnel",
            "--admin=127.0.0.1:15000",
            "--ready=0.0.0.0:15021",
            "--admin-socket=/r/z.sock",
            "--node=n",
        ];
        let first = Launch {
            name: "z".to_owned(),
            words: words.map(str::to_owned).to_vec(),
            log: PathBuf::new(),
        };
        let next = first.beside();
        assert_eq!(
            next.words,
            [
                "ztunnel",
                "--admin=127.0.0.1:16000",
                "--ready=0.0.0.0:16021",
                "--admin-socket=/r/z.sock.next",
                "--node=n"
            ]
        );
        assert_eq!(next.beside().words, first.words);
    }
}
