//! `weft-demo`: the mesh on this machine, shown or checked.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use act::process::Failure;
use clap::{Args, Parser, Subcommand};
use integration::{
    check::{self, Selection},
    isolate, load,
    program::program,
    show::{self, Screen},
    third::{sign, tunnel},
    world::{RunDirectory, Settings},
};

/// Two nodes, real programs in them and the mesh between them, all on this machine and gone when it ends.
#[derive(Debug, Parser)]
#[command(name = "weft-demo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    demo: Demo,
    #[command(subcommand)]
    tool: Option<Tool>,
}

#[derive(Debug, Args)]
struct Demo {
    /// Assert every promise instead of showing, print a table, exit 0 or 1
    #[arg(long)]
    check: bool,
    /// With --check: only these points, such as 1,3
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    only: Vec<u8>,
    /// The directory of Kubernetes YAML that says what runs; it may be edited meanwhile
    #[arg(
        long,
        env = "WEFT_DEMO_CONFIG",
        value_name = "DIR",
        default_value = "integration/demo"
    )]
    config: PathBuf,
    /// Where logs, sockets and the capture are put; `weft --run` finds the proxies there
    #[arg(long, env = "WEFT_DEMO_RUN", value_name = "DIR", default_value = "target/demo/run")]
    run: PathBuf,
    /// Where the mesh's programs are; default: beside this one
    #[arg(long, env = "WEFT_DEMO_BIN", value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Envoy's binary, for the third-party checks
    #[arg(
        long,
        env = "WEFT_DEMO_ENVOY",
        value_name = "FILE",
        default_value = "target/tools/envoy/bin/envoy"
    )]
    envoy: PathBuf,
    /// Prometheus' promtool, which judges the metrics; prometheus itself, which scrapes them, stands beside it
    #[arg(
        long,
        env = "WEFT_DEMO_PROMTOOL",
        value_name = "FILE",
        default_value = "target/tools/prometheus/usr/bin/promtool"
    )]
    promtool: PathBuf,
    /// How long the CA's certificates live; --check has its own
    #[arg(long, env = "WEFT_DEMO_LEAF_LIFE", value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "10m")]
    leaf_life: Duration,
    /// The mesh's log directives, such as debug
    #[arg(long, env = "WEFT_DEMO_LOG", value_name = "DIRECTIVES")]
    log: Option<String>,
    /// The same world without a mesh
    #[arg(long)]
    no_mesh: bool,
}

/// What the world runs inside its pods.
#[derive(Debug, Subcommand)]
enum Tool {
    /// HTTP load that tells what became of each request
    #[command(hide = true)]
    Load(load::LoadOptions),
    /// An HBONE client that believes every server, to see what a server believes
    #[command(hide = true)]
    Tunnel(tunnel::TunnelOptions),
    /// Has an identity's certificate signed by the CA
    #[command(hide = true)]
    Sign(sign::SignOptions),
}

fn main() -> ExitCode {
    program("weft-demo", run)
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.tool {
        Some(Tool::Load(options)) => load::generate(options, &act::process::shutdown()?, std::io::stdout())
            .await
            .map(|()| 0),
        Some(Tool::Tunnel(options)) => tunnel::run(&options).await.map(|()| 0),
        Some(Tool::Sign(options)) => sign::run(&options).await.map(|()| 0),
        None if isolate::inside() => inside(cli.demo).await,
        None => isolate::enter().await,
    }
}

async fn inside(demo: Demo) -> Result<u8, Failure> {
    let screen = Screen::new();
    let run = RunDirectory::take(&demo.run)?;
    let programs = match demo.bin {
        Some(directory) => directory,
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.to_owned()))
            .unwrap_or_default(),
    };
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|error| Failure(format!("{} cannot be resolved: {error}", path.display())))
    };
    let settings = Settings {
        config: absolute(demo.config)?,
        programs: absolute(programs)?,
        leaf_life: demo.leaf_life,
        log: demo.log,
        mesh: !demo.no_mesh,
        clock: None,
    };
    let selection = Selection::new(&demo.only, settings.mesh)?;
    let (envoy, promtool) = (absolute(demo.envoy)?, absolute(demo.promtool)?);
    let stop = act::process::shutdown()?;
    let ended = stop.run_until_cancelled(async {
        if demo.check {
            check::run(run, settings, &selection, (&envoy, &promtool), &screen).await
        } else {
            show::run(run, settings, &screen).await
        }
    });
    // With this process, the first of its namespace, everything else ends.
    ended.await.unwrap_or(Ok(if demo.check { 130 } else { 0 }))
}
