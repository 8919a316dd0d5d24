//! tcpdump on the link between the nodes, read as it writes.

use std::{
    fs::File,
    io::Write,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::process::Failure;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use super::pcap::{Reader, Seen};
use crate::world::{NODES, World};

/// Most of a capture that is kept as a file; what comes later is read, not kept.
const MOST_KEPT: usize = 32 * 1024 * 1024;

/// A running capture. Ends when dropped.
#[derive(Debug)]
pub struct Capture {
    reader: Arc<Mutex<Reader>>,
    _tcpdump: Child,
}

impl Capture {
    /// Starts to capture the link, and returns once it does. Its first 32 MiB are kept as `name` in the run
    /// directory, for those who want to look with their own eyes.
    ///
    /// # Errors
    /// When tcpdump cannot be started or does not begin within 10 s.
    pub async fn start(world: &World, name: &str, markers: &[&str]) -> Result<Self, Failure> {
        let [node, _] = NODES;
        let mut words = node.enter();
        words.extend(program());
        Self::begin(&words, &world.run_directory().join(name), markers).await
    }

    /// As [`Capture::start`], with a program that writes a capture to its standard output, and a file to keep it in.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub async fn begin(words: &[String], kept: &Path, markers: &[&str]) -> Result<Self, Failure> {
        let (program, args) = words.split_first().ok_or_else(|| Failure("no words".into()))?;
        let failed = |error: &dyn std::fmt::Display| Failure(format!("tcpdump cannot be started: {error}"));
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let (stdout, stderr) = child
            .stdout
            .take()
            .zip(child.stderr.take())
            .ok_or_else(|| failed(&"it has no output"))?;
        let kept = File::create(kept).map_err(|error| failed(&error))?;
        let reader = Arc::new(Mutex::new(Reader::new(markers)));
        tokio::spawn(read(stdout, kept, reader.clone()));
        let mut said = BufReader::new(stderr).lines();
        let begun = tokio::time::timeout(Duration::from_secs(10), async {
            while let Ok(Some(line)) = said.next_line().await {
                if line.contains("listening on") {
                    return Ok(());
                }
            }
            Err(failed(&"it ended at once"))
        });
        begun.await.map_err(|_| failed(&"it does not begin to listen"))??;
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(Self {
            reader,
            _tcpdump: child,
        })
    }

    /// Looks for one more marker from now on.
    pub fn look_for(&self, marker: &str) {
        self.reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look_for(marker);
    }

    /// Whether a marker crossed the link, waited for at most half a second.
    pub async fn saw(&self, marker: &str) -> bool {
        for _ in 0..25 {
            if self.seen().markers.contains_key(marker) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// What crossed the link until now.
    pub fn seen(&self) -> Seen {
        self.reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .seen()
            .clone()
    }
}

/// tcpdump, unbuffered, whole packets. It insists on changing its groups, which a user namespace forbids: there a
/// few lines of Python write the same.
fn program() -> Vec<String> {
    let groups = std::fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
    if groups.trim() == "deny" {
        ["python3", "-u", "-c", PYTHON]
            .iter()
            .map(ToString::to_string)
            .collect()
    } else {
        tcpdump("wire")
    }
}

/// The words that make tcpdump write what passes an interface to its standard output.
pub fn tcpdump(interface: &str) -> Vec<String> {
    let words = format!("tcpdump -i {interface} -s 0 -U --immediate-mode -n -Z root -B 16384 -w -");
    words.split(' ').map(ToOwned::to_owned).collect()
}

const PYTHON: &str = "
import socket, struct, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
link.bind(('wire', 3))
out = sys.stdout.buffer
out.write(struct.pack('<IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
print('listening on wire', file=sys.stderr)
while True:
    packet = link.recv(262144)
    now = time.time()
    out.write(struct.pack('<IIII', int(now), int(now % 1 * 1e6), len(packet), len(packet)) + packet)
    out.flush()
";

async fn read(mut stdout: tokio::process::ChildStdout, mut kept: File, reader: Arc<Mutex<Reader>>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut left = MOST_KEPT;
    while let Ok(count) = stdout.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        if left >= count {
            // The copy is a courtesy: a full disk must not stop the reading.
            left = if kept.write_all(bytes).is_ok() { left - count } else { 0 };
        } else {
            left = 0;
        }
        reader.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
