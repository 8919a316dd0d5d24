//! Structured logs: text or JSON, level changeable live, written by a thread of their own so that a slow
//! reader of our output never stops traffic (lines beyond the bounded queue are dropped and counted).

use std::{fmt, io::IsTerminal, sync::Arc};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 65_536;

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
        let (writer, guard): (NonBlocking, WorkerGuard) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUE_LINES)
            .lossy(true)
            .finish(std::io::stdout());
        let dropped = writer.error_counter();
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
    use super::*;

    #[test]
    fn directives_that_cannot_be_understood_are_refused_with_an_example() {
        let error = parse("info,=,=").unwrap_err();
        assert!(error.contains("try info"), "{error}");
        assert!(parse(&"x".repeat(5000)).is_err());
        assert!(parse("info,ztunnel=debug").is_ok());
    }
}
