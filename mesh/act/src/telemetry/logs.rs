//! Structured logs: text or JSON, level changeable live, written by a thread of their own so that a slow
//! reader of our output never stops traffic (lines beyond the bounded queue are dropped and counted, and so are those
//! that find no room on a full disk).

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    num::NonZeroU32,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Lines that were dropped by the logger that was started.
static DROPPED: OnceLock<Dropped> = OnceLock::new();

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Flags that every binary shares.
#[derive(Debug, Clone, clap::Args)]
pub struct LogOptions {
    /// Which events are logged: `info`, `debug`, or directives such as `info,ztunnel=debug`
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// How log lines are written
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Lines that may wait to be written; more are dropped and counted, so that a slow reader stops no traffic
    #[arg(long, env = "WEFT_LOG_QUEUE", value_name = "LINES", default_value = "16384")]
    pub log_queue: NonZeroU32,
}

/// A handle on the running logger. The last one dropped writes out what is queued.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: Dropped,
    _writer: Arc<WorkerGuard>,
}

/// Counts lines that nobody will read.
#[derive(Clone)]
struct Dropped {
    /// They had no place in the queue.
    queue: ErrorCounter,
    /// Our output did not take them whole.
    output: Arc<AtomicU64>,
}

/// Our output, line by line. It goes on after a line that was not taken, which is counted.
struct Lines<W> {
    out: W,
    /// Whether it ends with a piece of a line.
    torn: bool,
    lost: Arc<AtomicU64>,
}

impl LogOptions {
    /// Starts logging to standard output. Once per process.
    ///
    /// # Errors
    /// One plain sentence when the directives cannot be understood or logging was started before.
    pub fn start(&self) -> Result<Logs, String> {
        // Without the standard library's buffer, which would keep a piece of a line that was given up.
        let out = io::stdout().as_fd().try_clone_to_owned();
        let out = out.map_err(|error| format!("standard output cannot be written to: {error}"))?;
        let (writer, guard, dropped) = writer(self.log_queue, File::from(out));
        let _ = DROPPED.set(dropped.clone());
        let (filter, handle) = reload::Layer::new(parse(&self.log)?);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(io::stdout().is_terminal());
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        }
        .map_err(|error| format!("logging cannot be started: {error}"))?;
        Ok(Logs {
            filter: handle,
            dropped,
            _writer: Arc::new(guard),
        })
    }
}

impl Logs {
    /// The directives in force.
    pub fn level(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Changes the directives.
    ///
    /// # Errors
    /// One plain sentence when they cannot be understood; the old ones stay.
    pub fn set_level(&self, directives: &str) -> Result<(), String> {
        let filter = parse(directives)?;
        self.filter
            .reload(filter)
            .map_err(|error| format!("the log level cannot be changed: {error}"))
    }

    /// Lines dropped because the reader of our output was too slow, or the disk it is on full.
    pub fn dropped(&self) -> u64 {
        self.dropped.lines()
    }
}

impl Dropped {
    fn lines(&self) -> u64 {
        self.queue.dropped_lines() as u64 + self.output.load(Relaxed)
    }
}

impl<W: Write> Lines<W> {
    /// Writes all of it.
    ///
    /// # Errors
    /// How much of it was written when no more could be.
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(taken @ 1..) => {
                    written += taken;
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Lines<W> {
    /// Takes a line whole, which is how the thread that writes hands it over, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What was torn is ended first, so that the line after it can be read.
        self.torn = self.torn && self.put(b"\n").is_err();
        let put = if self.torn { Err(0) } else { self.put(line) };
        if let Err(written) = put {
            self.torn |= written > 0;
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Logs")
    }
}

/// Publishes how many lines were dropped. As a total each time: a counter that is only held falls silent.
pub(super) fn publish() {
    if let Some(dropped) = DROPPED.get() {
        metrics::counter!("weft_log_lines_dropped_total").absolute(dropped.lines());
    }
}

/// Writes lines on a thread of its own. Where `most` of them wait, further ones are dropped.
fn writer(most: NonZeroU32, out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard, Dropped) {
    let output = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        out,
        torn: false,
        lost: output.clone(),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(most.get() as usize)
        .lossy(true)
        .finish(lines);
    let queue = writer.error_counter();
    (writer, guard, Dropped { queue, output })
}

fn parse(directives: &str) -> Result<EnvFilter, String> {
    if directives.len() > 4096 {
        return Err("log directives are longer than 4096 bytes; shorten them".into());
    }
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        format!("log directives {directives:?} cannot be understood ({error}); try info, debug or info,ztunnel=debug")
    })?;
    // The client of the API server logs each failed try as an error; we tell an outage once.
    let quiet = "kube_client::client::builder=off".parse();
    Ok(match quiet {
        Ok(quiet) if !directives.contains("kube_client") => filter.add_directive(quiet),
        _ => filter,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        mpsc::{Receiver, channel},
    };

    use super::*;

    /// A reader of our output that reads a line when it is told to.
    struct Slow(Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Once nobody tells it any more, it reads everything.
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_too_slow_stops_nobody_and_what_is_dropped_is_counted() {
        let (read, told) = channel();
        let (mut writer, guard, dropped) = writer(NonZeroU32::new(10).unwrap(), Slow(told));
        // Comes to its end though nothing is read at all.
        for _ in 0..1000 {
            writer.write_all(b"a line\n").unwrap();
        }
        // The queue, and the line in the writer's hands.
        assert!((989..=990).contains(&dropped.lines()), "{}", dropped.lines());
        drop(read);
        drop(guard);
    }

    /// A disk, and how many bytes of it are free.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let taken = line.len().min(disk.1);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0.extend_from_slice(&line[..taken]);
            disk.1 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_those_after_them_are_whole() {
        let disk = Disk::default();
        let lost = Arc::new(AtomicU64::new(0));
        let mut lines = Lines {
            out: disk.clone(),
            torn: false,
            lost: lost.clone(),
        };
        // Room for one line and a piece of another; then for nothing; then for all.
        for free in [9, 0, 100] {
            disk.0.lock().unwrap().1 = free;
            for line in [b"one 1\n", b"two 2\n"] {
                assert_eq!(lines.write(line).unwrap(), line.len());
            }
        }
        let text = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
        assert_eq!(text, "one 1\ntwo\none 1\ntwo 2\n");
        assert_eq!(lost.load(Relaxed), 3);
    }

    #[test]
    fn directives_that_cannot_be_understood_are_refused_with_an_example() {
        let error = parse("info,=,=").unwrap_err();
        assert!(error.contains("try info"), "{error}");
        assert!(parse(&"x".repeat(5000)).is_err());
        assert!(parse("info,ztunnel=debug").is_ok());
    }
}
