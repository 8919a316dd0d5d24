//! Starting and stopping the components of a running cluster, nodes among them.

use std::{thread, time::Duration};

use act::process::Failure;
use tokio::time::Instant;

use super::{
    enter::{Place, machine},
    layout::{Layout, Node},
    machine::Order,
};

/// How long a node may take to power on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives orders to the machine of a place, one after the other. A node that is started is waited for until it takes
/// orders itself; its components come up after that.
///
/// # Errors
/// Why an order is refused, or that a node does not come up.
pub fn order(layout: &Layout, place: Place, orders: &[Order]) -> Result<(), Failure> {
    let mut machine = machine(layout, place)?;
    for order in orders {
        machine.order(order)?;
        if let (Place::ControlPlane, Order::Start(name)) = (place, order)
            && let Some(node) = Node::named(name)
        {
            powered_on(layout, node)?;
        }
    }
    Ok(())
}

fn powered_on(layout: &Layout, node: Node) -> Result<(), Failure> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let statuses = machine(layout, Place::Node(node)).and_then(|mut node| node.order(&Order::Status));
        if statuses.is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(Failure(format!(
        "{} does not power on; see {}",
        node.name(),
        layout.log(super::layout::CONTROL_PLANE, &node.name()).display()
    )))
}
