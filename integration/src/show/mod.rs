//! The demo as a person sees it: progress while it starts, then a table that refreshes.

mod screen;
mod table;

pub use screen::Screen;
pub use table::Table;

use act::process::Failure;

use crate::world::{RunDirectory, Settings, World};

/// Starts the world and shows it until Ctrl-C.
pub async fn run(run: RunDirectory, settings: Settings, screen: &Screen) -> Result<u8, Failure> {
    let world = World::lay(run, settings).await?;
    world.start(&|step| screen.progress(step)).await?;
    world.clone().keep(|_| {}).await;
    Ok(0)
}
