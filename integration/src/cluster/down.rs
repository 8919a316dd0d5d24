//! Ends a cluster: kills its first process, with which everything in its namespaces ends, then removes its cgroups and
//! its directory.

use std::{fs, path::Path, thread, time::Duration};

use act::process::Failure;
use rustix::process::{Signal, kill_process};

use super::{
    layout::{CONTROL_PLANE, Layout, MOST_NODES, Node},
    machine::{Machine, remove_cgroup},
};

/// How long the kernel may take to end a killed cluster, in steps of [`STEP`].
const STEPS: u32 = 400;
/// One step.
const STEP: Duration = Duration::from_millis(50);

/// Ends the cluster of a directory, or removes what one left. Nothing there is no error. True if something was there.
///
/// # Errors
/// Names what does not end or cannot be removed.
pub fn down(layout: &Layout) -> Result<bool, Failure> {
    let ran = kill(layout)?;
    for node in Node::first(MOST_NODES) {
        remove_cgroup(&layout.cgroup(node))?;
    }
    let left = layout.directory().exists();
    if left {
        // Only what `up` made: someone may have named a directory that holds other things.
        if !layout.spec(CONTROL_PLANE).exists()
            && fs::read_dir(layout.directory()).is_ok_and(|mut it| it.next().is_some())
        {
            return Err(Failure(format!(
                "{} holds something else than a cluster; choose another with --dir",
                layout.directory().display()
            )));
        }
        fs::remove_dir_all(layout.directory())
            .map_err(|error| Failure(format!("{} cannot be removed: {error}", layout.directory().display())))?;
    }
    Ok(ran || left)
}

pub(super) fn kill(layout: &Layout) -> Result<bool, Failure> {
    let Some(machine) = Machine::find(CONTROL_PLANE, &layout.socket(CONTROL_PLANE)) else {
        return Ok(false);
    };
    let pid = machine.pid();
    kill_process(pid, Signal::KILL).map_err(|error| Failure(format!("the cluster cannot be killed: {error}")))?;
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    for _ in 0..STEPS {
        if !process.exists() {
            return Ok(true);
        }
        thread::sleep(STEP);
    }
    Err(Failure(format!(
        "the cluster's first process {pid:?} was killed and does not end"
    )))
}
