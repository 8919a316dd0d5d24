//! Runs the points, together where they do not disturb each other, and prints the table.

use std::{fs, path::Path};

use act::process::Failure;

use super::{Bench, Point, Row, world};
use crate::{
    show::{Screen, Table},
    world::{RunDirectory, Settings, World},
};

/// Which points are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<u8>);

/// Every point that needs the mesh.
const POINTS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

impl Selection {
    /// These points, or all there are. Point 0 is the world without a mesh, and the only one then.
    ///
    /// # Errors
    /// When there is no such point.
    pub fn new(only: &[u8], mesh: bool) -> Result<Self, Failure> {
        let there: &[u8] = if mesh { &POINTS } else { &[0] };
        match only.iter().find(|point| !there.contains(point)) {
            Some(point) => Err(Failure(format!("there is no point {point}; there are {there:?}"))),
            None if only.is_empty() => Ok(Self(there.to_vec())),
            None => Ok(Self(only.to_vec())),
        }
    }

    fn has(&self, point: u8) -> bool {
        self.0.contains(&point)
    }
}

/// Starts a world on a copy of the directory, asserts the points, prints what was found; answers the exit code.
///
/// # Errors
/// When the world does not start.
pub async fn run(
    run: RunDirectory,
    mut settings: Settings,
    selection: &Selection,
    envoy: &Path,
    screen: &Screen,
) -> Result<u8, Failure> {
    let copy = run.join("config");
    copy_yaml(&settings.config, &copy)?;
    settings.config = copy;
    let started = tokio::time::Instant::now();
    let world = World::start(run, settings, &|step| screen.progress(step)).await?;
    let keeper = screen.clone();
    tokio::spawn(world.clone().keep(move |trouble| keeper.progress(trouble)));
    let bench = Bench {
        world,
        envoy: envoy.to_owned(),
        screen: screen.clone(),
    };
    let mut rows = Vec::new();
    if selection.has(0) {
        let mut point = Point::new(0);
        world::check(&bench, &mut point).await;
        rows.extend(point.rows());
    }
    rows.sort_by_key(|row| row.point);
    screen.print(&table(&rows).render(screen.width()));
    let failed = rows.iter().filter(|row| !row.pass).count();
    screen.print(&format!(
        "in {} s; logs and captures are in {}\n{} passed, {failed} failed\n",
        started.elapsed().as_secs(),
        bench.world.run_directory().join("").display(),
        rows.len() - failed
    ));
    Ok(u8::from(failed > 0 || rows.is_empty()))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["", "point", "law", "expected", "seen"]);
    for row in rows {
        let mark = if row.pass { "ok" } else { "FAILED" };
        table.row([mark, &row.point.to_string(), &row.law, &row.expected, &row.seen]);
    }
    table
}

fn copy_yaml(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure(format!("{} cannot be copied: {error}", from.display()));
    fs::create_dir_all(to).map_err(failed)?;
    for file in crate::world::objects::yaml_files(from)? {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, to.join(name)).map_err(failed)?;
    }
    Ok(())
}
