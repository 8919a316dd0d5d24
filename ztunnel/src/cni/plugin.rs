//! The plugin: one short process for each call of the container runtime. A sandbox of an enrolled pod is let
//! through once the agent has captured it; any other at once. Without the agent it finds out by itself, and lets
//! no pod through that it knows, or last knew, to be in the mesh.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    ask::{Answer, PodName, Question, decode, encode},
    call::{Call, CniError, Verb, versions},
    known::Known,
    lookup,
};
use crate::zds::Packets;

/// The variable by which a container runtime says what it calls for.
pub const COMMAND: &str = "CNI_COMMAND";
/// Largest configuration that is read, in bytes.
const MOST_INPUT: u64 = 4 << 20;
/// How long the agent may take to capture a pod.
const CAPTURE: Duration = Duration::from_secs(25);
/// How long to wait while the agent's queue of questions is full.
const FULL: Duration = Duration::from_millis(50);
/// How long the agent may take for anything else.
const QUICK: Duration = Duration::from_secs(2);

/// Serves the call in this process' environment and standard input.
pub fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(MOST_INPUT).read_to_end(&mut input);
    let version = version(&input);
    let served = read
        .map_err(|why| CniError::io(&format!("standard input cannot be read: {why}")))
        .and_then(|_| Call::parse(|name| std::env::var(name).ok(), &input))
        .and_then(|call| serve(&call));
    let (said, code) = match served {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result, ExitCode::SUCCESS),
        Err(error) => (error.to_json(&version), ExitCode::FAILURE),
    };
    match writeln!(io::stdout(), "{said}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The version that even an error is written in.
fn version(input: &[u8]) -> String {
    let config: Value = serde_json::from_slice(input).unwrap_or_default();
    let version = config.get("cniVersion").and_then(Value::as_str);
    version.unwrap_or_default().to_owned()
}

/// What goes to standard output, if anything does.
fn serve(call: &Call) -> Result<Option<Value>, CniError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CniError::io(&format!("no runtime can be made: {why}")))?;
    match call.verb {
        Verb::Version => Ok(Some(versions())),
        // a node is no less ready without us: pods outside the mesh start
        Verb::Status | Verb::Gc => Ok(None),
        Verb::Del => {
            runtime.block_on(del(call));
            Ok(None)
        }
        Verb::Check => runtime.block_on(check(call)).map(|()| None),
        Verb::Add => {
            let result = call.result()?.clone();
            runtime.block_on(add(call))?;
            Ok(Some(result))
        }
    }
}

async fn add(call: &Call) -> Result<(), CniError> {
    let Some(pod) = call.pod.as_ref().filter(|pod| !call.is_excluded(pod)) else {
        return Ok(());
    };
    let netns = File::open(&call.netns).map_err(|why| {
        CniError::io(&format!(
            "the network namespace {} cannot be opened: {why}",
            call.netns.display()
        ))
    })?;
    let question = Question::Add {
        pod: pod.clone(),
        container: call.container.clone(),
        addresses: call.addresses(),
    };
    let why = match ask(call, &question, Some(netns.into()), CAPTURE).await {
        Ok(Answer::Captured | Answer::NotEnrolled) => return Ok(()),
        Ok(Answer::Waits { why }) => return Err(waits(pod, &why)),
        Ok(Answer::Unknown { why }) | Err(why) => why,
    };
    by_itself(call, pod, &why).await
}

/// Without the agent: what the API server says, else what the agent knew last.
async fn by_itself(call: &Call, pod: &PodName, why: &str) -> Result<(), CniError> {
    let asked = timeout(lookup::PATIENCE, lookup::is_enrolled(&call.config.kubeconfig, pod)).await;
    let enrolled = match asked.unwrap_or_else(|_| Err("the API server did not answer".to_owned())) {
        Ok(enrolled) => enrolled,
        Err(_) => Known::read(&call.config.state).is_ok_and(|known| known.enabled.contains(&pod.namespace)),
    };
    if enrolled { Err(waits(pod, why)) } else { Ok(()) }
}

async fn del(call: &Call) {
    let Some(pod) = call.pod.clone() else { return };
    let question = Question::Del {
        pod,
        container: call.container.clone(),
    };
    // a namespace that is gone already has nobody to say goodbye to
    let netns = File::open(&call.netns).ok().map(OwnedFd::from);
    // an agent that is away finds out by itself that the sandbox is gone
    let _ = ask(call, &question, netns, QUICK).await;
}

async fn check(call: &Call) -> Result<(), CniError> {
    call.result()?;
    let Some(pod) = call.pod.clone().filter(|pod| !call.is_excluded(pod)) else {
        return Ok(());
    };
    match ask(call, &Question::Check { pod: pod.clone() }, None, QUICK).await {
        Ok(Answer::Waits { why }) => Err(waits(&pod, &why)),
        // rules stand without the agent
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn ask(call: &Call, question: &Question, netns: Option<OwnedFd>, patience: Duration) -> Result<Answer, String> {
    let away = |why: &dyn std::fmt::Display| {
        format!(
            "the agent weft-cni of this node does not answer at {}: {why}",
            call.config.socket.display()
        )
    };
    let packet = encode(question).ok_or("the pod's names are too long")?;
    let asking = async {
        let packets = loop {
            match Packets::connect(&call.config.socket) {
                // many sandboxes at once: the agent takes one question after the other
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => sleep(FULL).await,
                connected => break connected?,
            }
        };
        packets.send(&packet, netns.as_ref().map(AsFd::as_fd)).await?;
        packets.receive().await
    };
    match timeout(patience, asking).await {
        Err(_) => Err(away(&format!("nothing within {patience:?}"))),
        Ok(Err(why)) => Err(away(&why)),
        Ok(Ok(None)) => Err(away(&"it hung up")),
        Ok(Ok(Some(received))) => decode(&received.packet).ok_or_else(|| away(&"its answer cannot be understood")),
    }
}

fn waits(pod: &PodName, why: &str) -> CniError {
    CniError::later(format!(
        "{}/{} is in the mesh and does not start before it is captured: {why}",
        pod.namespace, pod.name
    ))
}
