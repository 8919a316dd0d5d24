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
