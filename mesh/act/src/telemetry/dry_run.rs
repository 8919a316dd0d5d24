//! What policies on trial would have refused.

use decide::model::{Decider, ObjectRef};
use metrics::Counter;

use super::{metrics::Series, options::Told};

static DENIALS: Series<ObjectRef, Counter> = Series::new("dry_run_denials");

/// Counts a flow that a dry-run policy would have refused, by the policy: `weft_dry_run_denials_total`.
pub(super) fn denied(by: &Decider) {
    let told = Told::in_force();
    let count = |object: Option<&ObjectRef>| {
        let policy = object.map_or_else(|| "overflow".to_owned(), ToString::to_string);
        metrics::counter!("weft_dry_run_denials_total", "policy" => policy)
    };
    DENIALS
        .handles(by.object.clone(), told.series, || DENIALS.sweep(), count)
        .increment(1);
}
