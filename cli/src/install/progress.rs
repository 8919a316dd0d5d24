//! What a person sees while waiting: each step when it ends, with the time it took. Programs get all of it at the end.

use std::process::ExitCode;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::output::{self, Format};

/// Steps of one command.
pub(crate) struct Progress {
    /// None: nobody is told.
    format: Option<Format>,
    start: Instant,
    last: Instant,
    steps: Vec<Value>,
}

impl Progress {
    pub(crate) fn new(format: Format) -> Self {
        Self::told(Some(format))
    }

    /// Steps within a step, which nobody is told.
    pub(crate) fn silent() -> Self {
        Self::told(None)
    }

    fn told(format: Option<Format>) -> Self {
        let now = Instant::now();
        Self {
            format,
            start: now,
            last: now,
            steps: Vec::new(),
        }
    }

    /// A step ended.
    pub(crate) fn step(&mut self, what: &str) -> Result<(), String> {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        self.tell(&format!("{seconds:>6.1} s  {what}\n"))?;
        self.steps.push(json!({ "step": what, "seconds": rounded(seconds) }));
        Ok(())
    }

    /// Something to know, which no step is.
    pub(crate) fn remark(&mut self, what: &str) -> Result<(), String> {
        self.tell(&format!("          {what}\n"))?;
        self.steps.push(json!({ "remark": what }));
        Ok(())
    }

    /// Something that is so for the moment; programs need not know.
    pub(crate) fn meanwhile(&self, what: &str) -> Result<(), String> {
        self.tell(&format!("          {what}\n"))
    }

    /// All is done.
    pub(crate) fn finish(self, summary: &str) -> Result<ExitCode, String> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.tell(&format!("{seconds:>6.1} s  in all. {summary}\n"))?;
        if let Some(format) = self.format.filter(|format| *format != Format::Table) {
            let all = json!({ "summary": summary, "seconds": rounded(seconds), "steps": self.steps });
            output::value(&all, format)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, line: &str) -> Result<(), String> {
        if self.format == Some(Format::Table) {
            output::text(line)
        } else {
            Ok(())
        }
    }
}

/// Seconds to a tenth: more would be noise.
fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
