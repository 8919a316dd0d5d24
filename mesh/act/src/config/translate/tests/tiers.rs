use super::*;

/// A Service with a slice of three endpoints: on n1 and n2 in zone z1, on n3 in z2.
fn sliced(spec: &str, endpoints: &str) -> Translation {
    translation(&format!(
        "{SHOP}---\n{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, \
         spec: {{clusterIP: 10.2.0.1, ports: [{{port: 80}}]{spec}}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-1, namespace: shop, \
         labels: {{kubernetes.io/service-name: web}}}}, ports: [{{port: 8080}}], endpoints: [{endpoints}]}}\n"
    ))
}

const PLAIN: &str = "{addresses: [10.1.0.1], nodeName: n1, zone: z1}, {addresses: [10.1.0.2], nodeName: n2, zone: z1}, \
                     {addresses: [10.1.0.3], nodeName: n3, zone: z2}";

/// Indexes preferred from nodes and zones, sorted by name.
fn preferred(translation: &Translation) -> (Vec<String>, Vec<String>) {
    let tiers = &service(translation, "shop/web").tiers;
    let shown = |map: &HashMap<Arc<str>, Box<[u32]>>| {
        let mut all: Vec<String> = map.iter().map(|(name, all)| format!("{name} {all:?}")).collect();
        all.sort();
        all
    };
    (shown(&tiers.nodes), shown(&tiers.zones))
}

#[test]
fn tiers_are_what_traffic_distribution_asks_for() {
    let zones = ["z1 [0, 1]", "z2 [2]"];
    let nodes = ["n1 [0]", "n2 [1]", "n3 [2]"];
    for (spec, expected_nodes, expected_zones) in [
        ("", &[][..], &[][..]),
        (", trafficDistribution: Whatever", &[], &[]),
        (", trafficDistribution: PreferClose", &[], &zones),
        (", trafficDistribution: PreferSameZone", &[], &zones),
        (", trafficDistribution: PreferSameNode", &nodes, &zones),
        (", internalTrafficPolicy: Local", &nodes, &[]),
        (", internalTrafficPolicy: Cluster", &[], &[]),
    ] {
        let translation = sliced(spec, PLAIN);
        let (nodes, zones) = preferred(&translation);
        assert_eq!(
            (&*nodes, &*zones),
            (&*owned(expected_nodes), &*owned(expected_zones)),
            "{spec}"
        );
        assert_eq!(
            service(&translation, "shop/web").tiers.only_node,
            spec.contains("Local")
        );
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn hints_of_the_cluster_come_first_and_count_only_when_every_ready_endpoint_has_them() {
    let hinted = "{addresses: [10.1.0.1], nodeName: n1, zone: z1, hints: {forZones: [{name: z2}, {name: z1}]}}, \
                  {addresses: [10.1.0.2], nodeName: n2, zone: z1, hints: {forZones: [{name: z1}], forNodes: [{name: n9}]}}";
    assert_eq!(preferred(&sliced("", hinted)).1, ["z1 [0, 1]", "z2 [0]"]);
    let unhinted = ", {addresses: [10.1.0.3], nodeName: n3, zone: z2}";
    assert_eq!(
        preferred(&sliced("", &format!("{hinted}{unhinted}"))).1,
        Vec::<String>::new()
    );
    let unready = ", {addresses: [10.1.0.3], nodeName: n3, zone: z2, conditions: {ready: false}}";
    assert_eq!(
        preferred(&sliced("", &format!("{hinted}{unready}"))).1,
        ["z1 [0, 1]", "z2 [0]"]
    );
    let nodes = "{addresses: [10.1.0.1], nodeName: n1, hints: {forNodes: [{name: n1}, {name: n2}]}}";
    assert_eq!(preferred(&sliced("", nodes)).0, ["n1 [0]", "n2 [0]"]);
}

#[test]
fn where_a_node_is_it_says_itself_and_else_endpoints_there_say_of_its_zone() {
    let mut translation = sliced("", PLAIN);
    let told = |translation: &Translation, node: &str| translation.snapshot().nodes.get(node).cloned();
    let zone = |translation: &Translation, node: &str| told(translation, node).and_then(|it| it.zone.clone());
    assert_eq!(zone(&translation, "n2").as_deref(), Some("z1"));
    assert_eq!(zone(&translation, "n4"), None);
    add(&mut translation, &node("n2", "topology.kubernetes.io/region: east"));
    let n2 = told(&translation, "n2").expect("a node");
    assert_eq!((n2.zone.as_deref(), n2.region.as_deref()), (Some("z1"), Some("east")));
    add(&mut translation, &node("n2", "topology.kubernetes.io/zone: z7"));
    let n2 = told(&translation, "n2").expect("a node");
    assert_eq!((n2.zone.as_deref(), n2.region.as_deref()), (Some("z7"), None));
    remove(&mut translation, "Node", "", "n2");
    assert_eq!(zone(&translation, "n2").as_deref(), Some("z1"));
    remove(&mut translation, "EndpointSlice", "shop", "web-1");
    assert!(translation.snapshot().nodes.is_empty());
}

fn node(name: &str, labels: &str) -> String {
    format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}}}")
}

#[test]
fn regions_are_those_of_the_nodes_that_endpoints_are_on() {
    let mut translation = sliced(", trafficDistribution: PreferClose", PLAIN);
    let regions = |translation: &Translation| {
        let tiers = &service(translation, "shop/web").tiers;
        let mut all: Vec<String> = tiers
            .regions
            .iter()
            .map(|(name, all)| format!("{name} {all:?}"))
            .collect();
        all.sort();
        all
    };
    assert_eq!(regions(&translation), Vec::<String>::new());
    for (name, region) in [("n1", "east"), ("n2", "east"), ("n3", "west"), ("n4", "west")] {
        add(
            &mut translation,
            &node(name, &format!("topology.kubernetes.io/region: {region}")),
        );
    }
    assert_eq!(regions(&translation), ["east [0, 1]", "west [2]"]);
    remove(&mut translation, "Node", "", "n1");
    assert_eq!(regions(&translation), ["east [1]", "west [2]"]);
}

#[test]
fn a_node_that_says_nothing_new_of_its_place_costs_nothing() {
    let mut translation = sliced(", trafficDistribution: PreferClose", PLAIN);
    add(&mut translation, &node("n1", "topology.kubernetes.io/zone: z1"));
    let before = translation.snapshot().version;
    add(
        &mut translation,
        &node("n1", "topology.kubernetes.io/zone: z1, other: label"),
    );
    assert_eq!((translation.work.services, translation.snapshot().version), (0, before));
    // A node of which no endpoint of such a Service is.
    add(&mut translation, &node("n9", "topology.kubernetes.io/zone: z1"));
    assert_eq!(translation.work.services, 0);
}

#[test]
fn pods_of_a_directory_are_where_their_nodes_are() {
    let text = format!(
        "{SHOP}{}---\n{}\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, \
         spec: {{clusterIP: 10.2.0.1, selector: {{app: web}}, ports: [{{port: 80}}], \
         trafficDistribution: PreferClose}}}}\n",
        pod("shop", "web", "10.1.0.2", ""),
        node(
            "node-1",
            "topology.kubernetes.io/zone: z1, topology.kubernetes.io/region: east"
        ),
    );
    let translation = translation(&text);
    let tiers = &service(&translation, "shop/web").tiers;
    assert_eq!(tiers.zones.get("z1").map(|all| &**all), Some(&[0][..]));
    assert_eq!(tiers.regions.get("east").map(|all| &**all), Some(&[0][..]));
}

#[test]
fn an_endpoint_that_terminates_and_serves_is_leaving() {
    let states = "{addresses: [10.1.0.1], conditions: {ready: false, serving: true, terminating: true}}, \
                  {addresses: [10.1.0.2], conditions: {ready: false, serving: false, terminating: true}}, \
                  {addresses: [10.1.0.3], conditions: {ready: true, serving: true, terminating: false}}, \
                  {addresses: [10.1.0.4], conditions: {ready: false}}";
    let translation = sliced("", states);
    let states: Vec<_> = service(&translation, "shop/web")
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.ready, endpoint.leaving))
        .collect();
    assert_eq!(states, [(false, true), (false, false), (true, false), (false, false)]);
}

#[test]
fn a_named_port_is_each_pods_own_number_also_in_slices() {
    let mut translation = sliced("", "{addresses: [10.1.0.1]}");
    add(
        &mut translation,
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-2, namespace: shop, \
         labels: {kubernetes.io/service-name: web}}, ports: [{port: 9090}], endpoints: [{addresses: [10.1.0.2]}]}",
    );
    let endpoints = &service(&translation, "shop/web").endpoints;
    let targets: Vec<_> = endpoints.iter().map(|endpoint| endpoint.target_port(80)).collect();
    assert_eq!(targets, [Some(8080), Some(9090)]);
}
