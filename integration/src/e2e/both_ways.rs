//! Point 2: the same objects, good and bad, through the API server and through a directory (`weft-source`).

use std::time::Duration;

use super::{
    reach::{beside, run},
    stage::Stage,
};
use crate::{check::Point, world::first_line};

/// The longest that feeding, comparing and taking away may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs it against this cluster's API server.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    stage.tell("212 objects through API server and directory");
    let law = "the same objects by API server and directory: the same taken, the same refused, one snapshot";
    let compared = async {
        let program = beside("weft-source")?.display().to_string();
        run(&stage.cluster.reach().words(&[&*program]), "", PATIENCE).await
    };
    let Some(finished) = point.step(law, compared.await) else {
        return;
    };
    for line in finished.stdout.lines().filter(|line| line.starts_with("FAILED")) {
        point.assert(law, "the same", line, false);
    }
    let said = finished.stdout.lines().last().filter(|line| !line.is_empty());
    let said = said.unwrap_or_else(|| first_line(&finished.stderr));
    point.assert(law, "0 failed", said, finished.success());
}
