//! `weft`: what a person types. Comes in: a command line, a directory of YAML or running proxies. Goes out:
//! tables, stories, exit codes. Never: a change to the mesh.

mod check;
mod demo;
mod lists;
mod output;
mod proxies;
mod source;
mod why;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{output::Format, source::Source};

/// The mesh on the command line
#[derive(Debug, Parser)]
#[command(name = "weft", version, about = "Weft: an ambient service mesh. See what it does, and why.", after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    from: Source,
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  weft demo                                              a two-node mesh on this machine, live
  weft check integration/demo                            every problem, with file, line and what to do
  weft --config integration/demo why shop/client-1 web.shop:80 GET /admin
  weft --run target/demo/run certs                       what each running proxy really holds

Exit codes: 0 fine (why: allowed), 1 error, 2 refused (why) or problems found (check).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a two-node mesh on this machine; with --check assert every promise
    #[command(disable_help_flag = true)]
    Demo {
        /// Passed on to weft-demo; `weft demo --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Which proxies run, whether they are ready, and what they know
    Status,
    /// Every workload: where it is, who it is, whether it is captured
    Workloads(lists::Namespaced),
    /// Every Service: addresses, endpoints, waypoint, routes
    Services(lists::Namespaced),
    /// Every authorization policy and what it binds
    Policies(lists::Namespaced),
    /// The certificates each proxy really holds, and how long they still live
    Certs,
    /// Every decision on the way of a connection or request, and the object that decided
    Why(why::Arguments),
    /// Every problem in a directory of YAML: file, line and what to do
    Check {
        /// The directory
        directory: PathBuf,
    },
    /// A completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("weft: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let (from, format) = (&arguments.from, arguments.output);
    match arguments.command {
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Status => lists::status(from, format),
        Command::Workloads(which) => lists::workloads(from, &which, format),
        Command::Services(which) => lists::services(from, &which, format),
        Command::Policies(which) => lists::policies(from, &which, format),
        Command::Certs => lists::certs(from, format),
        Command::Why(question) => why::run(from, &question, format),
        Command::Check { directory } => check::run(&directory, format),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
