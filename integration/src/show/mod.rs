//! The demo as a person sees it: progress while it starts, then a page that refreshes.

mod page;
mod refusals;
mod screen;
mod table;
mod talks;
mod traffic;

pub use screen::Screen;
pub use table::Table;

use std::{path::Path, sync::Arc, time::Duration};

use act::process::Failure;

use crate::{
    observe::{Capture, Log, admin, samples},
    world::{RunDirectory, Settings, World},
};
use page::Page;
use refusals::Refusals;

/// Between two pages on a terminal.
const REFRESH: Duration = Duration::from_secs(1);
/// Between two pages of an output that cannot be redrawn.
const REPEAT: Duration = Duration::from_secs(10);

/// Starts the world and shows it, for as long as it is let.
///
/// # Errors
/// When it does not start.
pub async fn run(run: RunDirectory, settings: Settings, screen: &Screen) -> Result<u8, Failure> {
    let mesh = settings.mesh;
    screen.progress("two nodes and the link between them");
    let world = World::lay(run, settings).await?;
    let capture = Capture::start(&world, "link.pcap", &traffic::MARKERS).await?;
    world.start(&|step| screen.progress(step)).await?;
    let _traffic = traffic::start(&world).await?;
    let keeper = *screen;
    tokio::spawn(world.clone().keep(move |trouble| keeper.progress(trouble)));
    screen.progress("running");
    screen.clear();
    let mut watch = Watch::new(&world, capture, mesh);
    let mut tick = tokio::time::interval(if screen.redraws() { REFRESH } else { REPEAT });
    loop {
        tick.tick().await;
        let page = watch.page(&world).await;
        screen.page(&page.render(screen.width(), screen.height()));
    }
}

/// What is looked at for every page.
struct Watch {
    capture: Capture,
    processes: Vec<String>,
    logs: Vec<(String, Log)>,
    refusals: Refusals,
    before: Option<crate::observe::pcap::Seen>,
}

impl Watch {
    fn new(world: &Arc<World>, capture: Capture, mesh: bool) -> Self {
        let run = world.run_directory();
        let sockets = std::fs::read_dir(run.join("")).into_iter().flatten().flatten();
        let mut processes: Vec<String> = sockets
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".sock").map(ToOwned::to_owned))
            .filter(|_| mesh)
            .collect();
        processes.sort();
        let logs = processes
            .iter()
            .map(|name| (name.clone(), Log::new(run.log(name))))
            .collect();
        Self {
            capture,
            processes,
            logs,
            refusals: Refusals::default(),
            before: None,
        }
    }

    async fn page(&mut self, world: &World) -> Page {
        let run = world.run_directory();
        let mut page = Page {
            run: from_here(&run.join("")),
            config: from_here(&world.settings().config),
            weft: from_here(&world.settings().programs.join("weft")),
            ..Page::default()
        };
        let mut measured = Vec::new();
        for process in &self.processes {
            let socket = run.socket(process);
            match admin(&socket, "/metrics").await {
                Ok(metrics) => measured.extend(samples(&metrics)),
                Err(_) => page.silent.push(process.clone()),
            }
            let certificates = admin(&socket, "/certs").await.unwrap_or_default();
            let certificates: Vec<serde_json::Value> = serde_json::from_str(&certificates).unwrap_or_default();
            page.certificates
                .extend(certificates.into_iter().map(|it| (process.clone(), it)));
        }
        page.talks = talks::talks(&measured);
        for (process, log) in &mut self.logs {
            log.events("access")
                .iter()
                .for_each(|event| self.refusals.hear(process, event));
        }
        page.refusals = self.refusals.latest();
        if let Some(proxy) = self.processes.iter().find(|it| it.starts_with("ztunnel")) {
            let problems = admin(&run.socket(proxy), "/problems").await.unwrap_or_default();
            page.problems = serde_json::from_str(&problems).unwrap_or_default();
        }
        page.ended = world.ended().await.iter().map(ToString::to_string).collect();
        page.seen = self.capture.seen();
        page.seen_before = self.before.replace(page.seen.clone()).unwrap_or_default();
        page
    }
}

/// A path as a person would type it here.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(here).unwrap_or(path).display().to_string();
    path.trim_end_matches('/').to_owned()
}
