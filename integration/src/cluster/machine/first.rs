//! A machine's first process: one loop over deaths, orders and the clock, the only owner of the components' states.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    thread,
    time::Duration,
};

use act::process::Failure;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tokio::time::Instant;

use super::{
    cgroup,
    control::{Answer, Order, State, Status, serve},
    node,
    spec::{Component, Spec},
};

/// How long a component that was told to end may take.
const GRACE: Duration = Duration::from_secs(10);
/// The pause before a dead component is started again: this after its first death, then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(50);
/// Connections served at once.
const CONNECTIONS: usize = 32;

/// What the loop hears.
enum Event {
    Died(Pid),
    Ordered(Order, SyncSender<Answer>),
}

/// A component and how it is.
struct Running {
    component: Component,
    pid: Option<Pid>,
    deaths: u32,
    want: Want,
}

/// What a component should do.
enum Want {
    Run,
    /// Start again then.
    RunAgain(Instant),
    /// End; be killed then; whoever waits is told.
    End(Option<Instant>, SyncSender<Answer>),
    Rest,
}

/// Runs a machine until it is killed. It should be the first process of a process namespace.
///
/// # Errors
/// When its file, its socket or its file system fails, before any component starts.
pub fn run(spec: &Path, socket: &Path) -> Result<(), Failure> {
    let spec = Spec::read(spec)?;
    let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot start: {error}", spec.name));
    // A socket left by an earlier life of the machine.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .map_err(|error| failed(&format_args!("its socket {}: {error}", socket.display())))?;
    if let Some(node) = &spec.node {
        node::enter(&spec.name, node)?;
    }
    let (events, heard) = channel();
    let orders = events.clone();
    thread::spawn(move || listen(&listener, &orders));
    let mut machine = Vec::new();
    for component in spec.components {
        let want = if component.at_boot { Want::Run } else { Want::Rest };
        machine.push(Running {
            component,
            pid: None,
            deaths: 0,
            want,
        });
    }
    for running in &mut machine {
        if matches!(running.want, Want::Run) {
            running.start();
        }
    }
    thread::spawn(move || bury(&events));
    attend(&mut machine, &heard);
    Ok(())
}

fn attend(machine: &mut [Running], heard: &Receiver<Event>) {
    loop {
        match heard.recv_timeout(TICK) {
            Ok(Event::Died(pid)) => {
                if let Some(dead) = machine.iter_mut().position(|it| it.pid == Some(pid)) {
                    died(machine, dead);
                }
            }
            Ok(Event::Ordered(order, answer)) => obey(machine, &order, answer),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        for running in machine.iter_mut() {
            running.look_at_the_clock(now);
        }
    }
}

fn died(machine: &mut [Running], dead: usize) {
    let mut waiting = None;
    if let Some(running) = machine.get_mut(dead) {
        running.pid = None;
        match std::mem::replace(&mut running.want, Want::Rest) {
            Want::End(_, answer) => waiting = Some(answer),
            Want::Rest => {}
            Want::Run | Want::RunAgain(_) => {
                running.deaths = running.deaths.saturating_add(1);
                running.want = Want::RunAgain(Instant::now() + pause(running.deaths));
            }
        }
    }
    if let Some(answer) = waiting {
        let _ = answer.try_send(Answer::Done(statuses(machine)));
    }
}

fn obey(machine: &mut [Running], order: &Order, answer: SyncSender<Answer>) {
    let name = match order {
        Order::Status => {
            let _ = answer.try_send(Answer::Done(statuses(machine)));
            return;
        }
        Order::Start(name) | Order::Stop(name) | Order::Kill(name) => name,
    };
    let known: Vec<_> = machine.iter().map(|it| it.component.name.clone()).collect();
    let Some(running) = machine.iter_mut().find(|it| it.component.name == *name) else {
        let why = format!("it has no component {name}; it has {}", known.join(", "));
        let _ = answer.try_send(Answer::Refused(why));
        return;
    };
    if matches!(running.want, Want::End(..)) {
        let _ = answer.try_send(Answer::Refused(format!("{name} is ending; try again")));
        return;
    }
    match (order, running.pid) {
        (Order::Start(_), Some(_)) | (Order::Stop(_) | Order::Kill(_), None) => {
            running.want = if running.pid.is_some() { Want::Run } else { Want::Rest };
        }
        (Order::Start(_), None) => {
            running.want = Want::Run;
            running.start();
        }
        (Order::Stop(_) | Order::Kill(_) | Order::Status, Some(pid)) => {
            let kill = matches!(order, Order::Kill(_)) || !running.component.polite;
            let _ = kill_process(pid, if kill { Signal::KILL } else { Signal::TERM });
            running.want = Want::End(Some(Instant::now() + GRACE), answer);
            return;
        }
        (Order::Status, None) => {}
    }
    let _ = answer.try_send(Answer::Done(statuses(machine)));
}

fn statuses(machine: &[Running]) -> Vec<Status> {
    machine.iter().map(Running::status).collect()
}

/// The pause before the next start of a component that died so often.
fn pause(deaths: u32) -> Duration {
    let doublings = deaths.saturating_sub(1).min(10);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

impl Running {
    fn start(&mut self) {
        match spawn(&self.component) {
            Ok(pid) => self.pid = Some(pid),
            Err(failure) => {
                let _ = fs::write(&self.component.log, format!("{failure}\n"));
                self.deaths = self.deaths.saturating_add(1);
                self.want = Want::RunAgain(Instant::now() + pause(self.deaths));
            }
        }
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        match &mut self.want {
            Want::RunAgain(when) if *when <= now => {
                self.want = Want::Run;
                self.start();
            }
            Want::End(when, _) if when.is_some_and(|when| when <= now) => {
                *when = None;
                if let Some(pid) = self.pid {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            Want::Run | Want::RunAgain(_) | Want::End(..) | Want::Rest => {}
        }
    }

    fn status(&self) -> Status {
        let state = match (&self.want, self.pid) {
            (Want::End(..), _) => State::Stopping,
            (_, Some(_)) => State::Running,
            (Want::Rest, None) => State::Stopped,
            (Want::Run | Want::RunAgain(_), None) => State::Dead,
        };
        Status {
            name: self.component.name.clone(),
            state,
            pid: self.pid.map(|pid| pid.as_raw_nonzero().get()),
            deaths: self.deaths,
        }
    }
}

/// Starts a component. Its end is heard by `bury`, not by the handle, which is dropped.
fn spawn(component: &Component) -> Result<Pid, Failure> {
    let Component { name, words, log, .. } = component;
    let failed = |error: &dyn std::fmt::Display| Failure(format!("{name} cannot be started: {error}"));
    let prelude = prelude(component)?;
    let shell = ["sh", "-euc", &prelude, "sh"];
    let mut all = shell.into_iter().chain(words.iter().map(String::as_str));
    let program = all.next().ok_or_else(|| failed(&"it has no command"))?;
    let output = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .map_err(|error| failed(&format_args!("{}: {error}", log.display())))?;
    let errors = output.try_clone().map_err(|error| failed(&error))?;
    let child = Command::new(program)
        .args(all)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(&format_args!("{program}: {error}")))?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| failed(&"it has no process id"))
}

/// What the shell does before it becomes the component: it waits for what the component needs, and goes into the
/// component's cgroup, so that the component's first socket already belongs to it.
fn prelude(component: &Component) -> Result<String, Failure> {
    let mut script = String::new();
    if let Some(socket) = &component.needs {
        script.push_str(&format!("until test -S '{}'; do sleep 0.1; done\n", socket.display()));
    }
    if let Some(cgroup) = &component.cgroup {
        for door in cgroup::doors(cgroup)? {
            script.push_str(&format!("echo $$ > '{}'\n", door.display()));
        }
    }
    script.push_str("exec \"$@\"");
    Ok(script)
}

/// Waits for every child there ever is, ours and those whose parents died.
fn bury(events: &Sender<Event>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) => {
                if events.send(Event::Died(pid)).is_err() {
                    return;
                }
            }
            // No child yet.
            Ok(None) | Err(_) => thread::sleep(TICK),
        }
    }
}

fn listen(listener: &UnixListener, events: &Sender<Event>) {
    let seats = std::sync::Arc::new(());
    for stream in listener.incoming().flatten() {
        if std::sync::Arc::strong_count(&seats) > CONNECTIONS {
            continue;
        }
        let (events, seat) = (events.clone(), seats.clone());
        thread::spawn(move || {
            answer(&stream, &events);
            drop(seat);
        });
    }
}

fn answer(stream: &UnixStream, events: &Sender<Event>) {
    serve(stream, |order| {
        let (reply, answer) = sync_channel(1);
        let gone = || Answer::Refused("the machine is going down".into());
        if events.send(Event::Ordered(order, reply)).is_err() {
            return gone();
        }
        answer.recv().unwrap_or_else(|_| gone())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_before_a_restart_grow_to_a_bound() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 2);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
