//! `weft`: what a person types. Comes in: a command line, a directory of YAML or running proxies. Goes out:
//! tables, stories, exit codes, and what was asked of the cluster.

mod bug_report;
mod check;
mod cluster;
mod complete;
mod demo;
mod enrolment;
mod events;
mod finding;
mod install;
mod lists;
mod namespace;
mod output;
mod pods;
mod proxies;
mod source;
mod status;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    cluster::{ClusterOptions, block_on},
    output::Format,
    source::SourceOptions,
};

/// The mesh on the command line
#[derive(Debug, Parser)]
#[command(name = "weft", version, about = "Weft: an ambient service mesh. See what it does, and why.", after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    from: SourceOptions,
    #[command(flatten)]
    cluster: ClusterOptions,
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  weft install                                           the mesh in a cluster, ready when it returns
  weft demo                                              a two-node mesh on this machine, live
  weft check integration/demo                            every problem, with file, line and what to do
  weft --config integration/demo why shop/guest web.shop:80 GET /admin
  weft namespace enable shop                             mutual TLS for every pod of a namespace
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
    /// Install the mesh in a cluster, and wait until it is ready
    Install(install::InstallOptions),
    /// Bring an installation to this version, or to other values
    Upgrade(install::UpgradeOptions),
    /// Take the mesh out of a cluster, and say what stays
    Uninstall(install::UninstallOptions),
    #[command(flatten)]
    Ask(Ask),
    /// A completion script for a shell, such as: source <(weft completions bash); names are asked of the cluster
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Commands that ask somebody: files, proxies of this machine, or a cluster.
#[derive(Debug, Subcommand)]
enum Ask {
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
    /// Which namespaces are in the mesh; take one in or out
    #[command(subcommand)]
    Namespace(namespace::Action),
    /// How much a proxy logs, and change it while it runs
    LogLevel(status::LogLevel),
    /// Every decision on the way of a connection or request, and the object that decided
    Why(why::Arguments),
    /// What stands in the mesh's way: in a cluster before and after the install, or in a directory of YAML
    Check(check::Arguments),
    /// Everything that explains the mesh, in one archive to show to others; no Secret is in it
    BugReport(bug_report::Arguments),
    /// The version of this command, and of every proxy that runs
    Version,
}

fn main() -> ExitCode {
    if complete::answer(Arguments::command) {
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // Clap would exit 2, which here says "refused".
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(arguments) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("weft: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, String> {
    match arguments.command {
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Install(options) => install::install(&arguments.cluster, &options, arguments.output),
        Command::Upgrade(options) => install::upgrade(&arguments.cluster, &options, arguments.output),
        Command::Uninstall(options) => install::uninstall(&arguments.cluster, &options, arguments.output),
        Command::Completions { shell } => {
            output::text(&complete::script(shell)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Ask(what) => block_on(ask(what, &arguments.from, &arguments.cluster, arguments.output)),
    }
}

async fn ask(what: Ask, from: &SourceOptions, cluster: &ClusterOptions, format: Format) -> output::Answer {
    let source = || from.resolve(cluster);
    match what {
        Ask::Status => status::status(&source().await?, format).await,
        Ask::Workloads(which) => lists::workloads(&source().await?, &which, format).await,
        Ask::Services(which) => lists::services(&source().await?, &which, format).await,
        Ask::Policies(which) => lists::policies(&source().await?, &which, format).await,
        Ask::Namespace(action) => namespace::run(&cluster.client().await?, &action, format).await,
        Ask::Certs => status::certs(&source().await?, format).await,
        Ask::LogLevel(which) => status::log_level(&source().await?, &which).await,
        Ask::Why(question) => why::run(&source().await?, &question, format).await,
        Ask::Check(arguments) => check::run(&arguments, source(), format).await,
        Ask::BugReport(arguments) => bug_report::run(&cluster.client().await?, &arguments, format).await,
        Ask::Version => status::version(source().await, format).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_parses() {
        let examples: Vec<_> = EXAMPLES.lines().filter(|line| line.starts_with("  weft ")).collect();
        assert!(examples.len() > 3);
        for example in examples {
            let words = example.trim().split("  ").next().expect("a command").split(' ');
            assert!(Arguments::try_parse_from(words).is_ok(), "{example}");
        }
    }

    #[test]
    fn command_lines_are_understood_or_refused() {
        for (line, fits) in [
            ("status", true),
            ("--config d workloads -n shop", true),
            ("workloads --config d -o yaml", true),
            ("why a/b c.d:80", true),
            ("why a/b c.d:80 GET /x -H a:b -H c:d", true),
            ("why a/b c.d:80 GET", false),
            ("why a/b", false),
            ("why a/b c.d:80 GET /x -H a", false),
            ("bug-report out.tar.gz", true),
            ("check", true),
            ("check d", true),
            ("check --pre --context c", true),
            ("check d --pre", false),
            ("--admin 127.0.0.1:15000 certs", true),
            ("--admin nowhere certs", false),
            ("--config d --admin 127.0.0.1:15000 status", false),
            ("-o xml status", false),
            ("demo --check --anything", true),
            ("completions bash", true),
            ("version", true),
            ("namespace enable shop other --no-wait", true),
            ("namespace disable shop --timeout 5s", true),
            ("namespace enable", false),
            ("namespace list -o yaml --kubeconfig k --context c", true),
            ("log-level ztunnel-a debug", true),
            ("why a/b c.d:80 --proxy ztunnel-a", true),
            ("", false),
            ("unheard-of", false),
        ] {
            let words = std::iter::once("weft").chain(line.split(' ').filter(|word| !word.is_empty()));
            assert_eq!(Arguments::try_parse_from(words).is_ok(), fits, "{line}");
        }
    }
}
