//! The command line of the bench.

use std::path::PathBuf;

use super::{Case, Subject};

/// What to measure, for how long, with which programs.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchOptions {
    /// Seconds of traffic for each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// How often every case is run; the median is told
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    /// Only these cases, such as throughput-1,http-64
    #[arg(long, value_enum, value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// Only these subjects, such as direct,weft
    #[arg(long, value_enum, value_delimiter = ',')]
    pub subjects: Vec<Subject>,
    /// Where the mesh's programs are; only those of a release build tell anything
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    pub bin: PathBuf,
    /// Envoy's binary
    #[arg(long, value_name = "FILE", default_value = "target/tools/envoy/bin/envoy")]
    pub envoy: PathBuf,
    /// Where results.json, details.json and results.svg are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Where logs and sockets are put
    #[arg(long, value_name = "DIR", default_value = "target/bench/run")]
    pub run: PathBuf,
}

impl BenchOptions {
    /// The cases asked for, in the order they are run.
    pub fn cases(&self) -> Vec<Case> {
        let asked = |case: &Case| self.cases.is_empty() || self.cases.contains(case);
        Case::ALL.into_iter().filter(asked).collect()
    }

    /// The subjects asked for, in the table's order.
    pub fn subjects(&self) -> Vec<Subject> {
        let asked = |subject: &Subject| self.subjects.is_empty() || self.subjects.contains(subject);
        Subject::ALL.into_iter().filter(asked).collect()
    }
}
