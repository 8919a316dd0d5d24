//! A cluster's machines and components, as a table.

use super::{
    enter::{Place, machine},
    layout::Layout,
    machine::{Order, State, Status, unified},
};
use act::process::Failure;

/// The table.
///
/// # Errors
/// When no cluster runs there.
pub fn status(layout: &Layout) -> Result<String, Failure> {
    let mut control_plane = machine(layout, Place::ControlPlane)?;
    let mut text = format!(
        "{:<14} {:<24} {:<9} {:>7} {:>7}  log\n",
        "machine", "component", "state", "pid", "deaths"
    );
    let statuses = control_plane.order(&Order::Status)?;
    rows(layout, Place::ControlPlane, &statuses, &mut text);
    let nodes = layout.nodes();
    for node in &nodes {
        let place = Place::Node(*node);
        match machine(layout, place).and_then(|mut node| node.order(&Order::Status)) {
            Ok(statuses) => rows(layout, place, &statuses, &mut text),
            Err(_) => text.push_str(&format!("{:<14} down\n", node.name())),
        }
    }
    for node in &nodes {
        let cgroup = format!("{}/kubelet", layout.cgroup(*node));
        let cgroup = unified(&cgroup).map_or_else(
            || "none: this machine has no cgroup version 2".into(),
            |path| path.display().to_string(),
        );
        text.push_str(&format!("\ncgroup of {}'s kubelet: {cgroup}", node.name()));
    }
    text.push('\n');
    Ok(text)
}

fn rows(layout: &Layout, place: Place, statuses: &[Status], text: &mut String) {
    let machine = place.machine();
    for status in statuses {
        let state = match status.state {
            State::Running => "running",
            State::Stopping => "stopping",
            State::Dead => "dead",
            State::Stopped => "stopped",
        };
        let pid = status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let log = layout.log(&machine, &status.name);
        text.push_str(&format!(
            "{machine:<14} {:<24} {state:<9} {pid:>7} {:>7}  {}\n",
            status.name,
            status.deaths,
            log.display()
        ));
    }
}

/// How programs reach the cluster, as shell variables: KUBECONFIG, and WEFT_CLUSTER_NET, the network namespace to enter.
///
/// # Errors
/// When no cluster runs there.
pub fn environment(layout: &Layout) -> Result<String, Failure> {
    let pid = machine(layout, Place::ControlPlane)?.pid().as_raw_nonzero();
    Ok(format!(
        "# nsenter --net=$WEFT_CLUSTER_NET PROGRAM\nexport KUBECONFIG={}\nexport WEFT_CLUSTER={}\n\
         export WEFT_CLUSTER_NET=/proc/{pid}/ns/net\nexport PATH={}:$PATH\n",
        layout.kubeconfig().display(),
        layout.directory().display(),
        layout.programs().display(),
    ))
}
