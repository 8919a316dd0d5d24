//! Light traffic of curl between the demo's pods, so that there is something to see.

use act::process::Failure;

use crate::world::{Process, World};

/// What clients of `shop` say among themselves, and what clients of `plain` say to anybody.
pub(super) const MARKERS: [&str; 2] = ["secret-of-shop", "secret-of-plain"];

/// Who asks for what, about once a second.
const CLIENTS: [(&str, &str, &[&str]); 5] = [
    (
        "shop/client-a",
        MARKERS[0],
        &["http://web/", "http://web/admin", "http://catalog/", "http://orders/"],
    ),
    (
        "shop/client-b",
        MARKERS[0],
        &["http://web/", "http://catalog/", "http://files/"],
    ),
    (
        "shop/guest",
        MARKERS[0],
        &["http://web/", "http://web/admin", "http://orders/"],
    ),
    // Outside the mesh, so in the clear: not a word of the shop's secret.
    ("shop/client-b", "hello", &["http://legacy.plain/"]),
    (
        "plain/outsider",
        MARKERS[1],
        &[
            "http://catalog.shop/",
            "http://orders.shop/",
            "http://web.shop/",
            "http://legacy/",
        ],
    ),
];

/// Starts the clients; they end when they are dropped.
///
/// # Errors
/// When one cannot be started. A pod that the directory does not have has no client.
pub(super) async fn start(world: &World) -> Result<Vec<Process>, Failure> {
    let objects = world.objects().await;
    let mut clients = Vec::new();
    for (index, (pod, say, urls)) in CLIENTS.into_iter().enumerate() {
        if !objects.pods.contains_key(pod) {
            continue;
        }
        let script = format!(
            "while sleep 1; do for url in {}; do curl -s -S -m 5 -o /dev/null -A {say} $url; done; done",
            urls.join(" ")
        );
        let name = format!("traffic-{index}");
        clients.push(world.spawn_in(pod, &name, &["sh", "-c", &script]).await?);
    }
    Ok(clients)
}
