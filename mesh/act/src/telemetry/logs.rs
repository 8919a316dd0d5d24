//! Structured logs: text or JSON, level changeable live, written by a thread of their own so that a slow
//! reader of our output never stops traffic (lines beyond the bounded queue are dropped and counted).

use std::{
    fmt,
    io::{IsTerminal, Write},
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Lines that had no place in the queue of the logger that was started.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

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
    #[arg(long, env = "WEFT_LOG_QUEUE", value_name = "LINES", default_value = "65536")]
    pub log_queue: NonZeroU32,
}

/// A handle on the running logger. The last one dropped writes out what is queued.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: ErrorCounter,
    _writer: Arc<WorkerGuard>,
}

impl LogOptions {
    /// Starts logging to standard output. Once per process.
    ///
    /// # Errors
    /// One plain sentence when the directives cannot be understood or logging was started before.
    pub fn start(&self) -> Result<Logs, String> {
        let (writer, guard) = writer(self.log_queue, std::io::stdout());
        let dropped = writer.error_counter();
        let _ = DROPPED.set(dropped.clone());
        let (filter, handle) = reload::Layer::new(parse(&self.log)?);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(std::io::stdout().is_terminal());
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

    /// Lines dropped because the reader of our output was too slow.
    pub fn dropped(&self) -> usize {
        self.dropped.dropped_lines()
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
        metrics::counter!("weft_log_lines_dropped_total").absolute(dropped.dropped_lines() as u64);
    }
}

/// Writes lines on a thread of its own. Where `most` of them wait, further ones are dropped.
fn writer(most: NonZeroU32, out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(most.get() as usize)
        .lossy(true)
        .finish(out)
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
    use std::{
        io,
        sync::mpsc::{Receiver, channel},
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
        let (mut writer, guard) = writer(NonZeroU32::new(10).unwrap(), Slow(told));
        let dropped = writer.error_counter();
        // Comes to its end though nothing is read at all.
        for _ in 0..1000 {
            writer.write_all(b"a line\n").unwrap();
        }
        // The queue, and the line in the writer's hands.
        assert!(
            (989..=990).contains(&dropped.dropped_lines()),
            "{}",
            dropped.dropped_lines()
        );
        drop(read);
        drop(guard);
    }

    #[test]
    fn directives_that_cannot_be_understood_are_refused_with_an_example() {
        let error = parse("info,=,=").unwrap_err();
        assert!(error.contains("try info"), "{error}");
        assert!(parse(&"x".repeat(5000)).is_err());
        assert!(parse("info,ztunnel=debug").is_ok());
    }
}
