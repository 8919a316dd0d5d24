//! `weft check DIR`: every problem in a directory of YAML.

use std::{path::Path, process::ExitCode};

use decide::model::Problem;
use serde_json::json;

use super::PROBLEMS;
use crate::{
    output::{self, Format},
    source,
};

/// Prints every problem, by file and line.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn run(directory: &Path, format: Format) -> Result<ExitCode, String> {
    let snapshot = source::read(directory)?.load();
    let mut problems: Vec<&Problem> = snapshot
        .problems
        .values()
        .flat_map(|problems| problems.iter())
        .collect();
    problems.sort_by(|a, b| (&a.place, a).cmp(&(&b.place, b)));
    if format == Format::Table {
        let story: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        output::text(&story)?;
        let objects = snapshot.workloads.len() + snapshot.services.len();
        output::text(&match problems.len() {
            0 => format!(
                "no problem in {} ({objects} workloads and Services)\n",
                directory.display()
            ),
            1 => "1 problem\n".to_owned(),
            count => format!("{count} problems\n"),
        })?;
    } else {
        output::value(&json!(problems), format)?;
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(PROBLEMS)
    })
}
