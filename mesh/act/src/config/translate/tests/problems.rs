use decide::model::Place;

use super::*;

fn policy(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}\n"
    )
}

fn shop() -> String {
    format!(
        "{SHOP}{WEB}{}{}",
        pod("shop", "web", "10.1.0.2", ""),
        pod("shop", "db", "10.1.0.3", "")
    )
}

const GET: &str = "rules: [{to: [{operation: {methods: [GET]}}]}]";
const UNGUARDED: &str = "needs HTTP to decide, and no waypoint stands before";

#[test]
fn a_selector_that_matches_no_pod_is_told_until_one_comes() {
    let mut translation = translation(&format!(
        "{}{}",
        shop(),
        policy("{selector: {matchLabels: {app: new}}, rules: [{}]}")
    ));
    assert_eq!(
        told(&translation),
        ["AuthorizationPolicy shop/p spec.selector: selects no pod, so it has no effect now."]
    );
    add(&mut translation, &pod("shop", "new", "10.1.0.5", ""));
    assert!(told(&translation).is_empty());
    remove(&mut translation, "Pod", "shop", "new");
    assert_eq!(told(&translation).len(), 1);
    remove(&mut translation, "AuthorizationPolicy", "shop", "p");
    assert!(told(&translation).is_empty());
}

#[test]
fn a_policy_on_pods_outside_the_mesh_is_told_until_one_joins() {
    let mut translation = translation(&format!(
        "{}{}",
        pod("shop", "web", "10.1.0.2", ""),
        policy("{rules: [{}]}")
    ));
    assert!(
        told(&translation)[0].contains("selects only pods outside the mesh"),
        "{:?}",
        told(&translation)
    );
    add(&mut translation, SHOP);
    assert!(told(&translation).is_empty());
}

#[test]
fn a_rule_about_requests_where_no_waypoint_stands_is_told() {
    let mut translation = translation(&format!("{}{}", shop(), policy(&format!("{{{GET}}}"))));
    let told_now = told(&translation);
    assert_eq!(told_now.len(), 1);
    assert!(
        told_now[0].starts_with(&format!(
            "AuthorizationPolicy shop/p spec.rules[0]: {UNGUARDED} Pod shop/db and 1 more"
        )),
        "{told_now:?}"
    );
    // Through its Service alone web is reached by a waypoint; db is not.
    add(
        &mut translation,
        &format!(
            "{WAYPOINT}{}",
            WEB.replace(
                "namespace: shop",
                "namespace: shop, labels: {weft.dev/use-waypoint: way}"
            )
        ),
    );
    let told_now = told(&translation);
    assert!(told_now[0].contains("Pod shop/db and 1 more"), "{told_now:?}");
    add(
        &mut translation,
        &policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, {GET}}}")),
    );
    assert!(told(&translation).is_empty(), "{:?}", told(&translation));
    // About a port that no Service with a waypoint stands for, it is told again.
    let on_port = "rules: [{to: [{operation: {methods: [GET], ports: ['9090']}}]}]";
    add(
        &mut translation,
        &policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, {on_port}}}")),
    );
    assert!(
        told(&translation)[0].contains("before Pod shop/web: such requests are refused"),
        "{:?}",
        told(&translation)
    );
}

#[test]
fn a_targeted_service_without_a_waypoint_is_told_for_rules_about_requests() {
    let target = format!("{{targetRefs: [{{kind: Service, name: web}}], {GET}}}");
    let mut translation = translation(&format!("{}{}", shop(), policy(&target)));
    assert!(
        told(&translation)[0].contains("before Service shop/web: such requests are refused"),
        "{:?}",
        told(&translation)
    );
    add(&mut translation, WAYPOINT);
    add(
        &mut translation,
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/dataplane-mode: ambient, weft.dev/use-waypoint: way}}}",
    );
    assert!(told(&translation).is_empty(), "{:?}", told(&translation));
    remove(&mut translation, "Service", "shop", "web");
    assert!(
        told(&translation)[0].contains("Service shop/web does not exist"),
        "{:?}",
        told(&translation)
    );
    add(&mut translation, WEB);
    assert!(told(&translation).is_empty());
}

#[test]
fn targets_that_cannot_be_honoured_bind_nothing_and_are_told() {
    for (target, what) in [
        ("{kind: Service, name: nope}", "Service shop/nope does not exist"),
        ("{kind: Servcie, name: web}", "is of a kind that no policy can target"),
        (
            "{group: apps, kind: Service, name: web}",
            "is of a kind that no policy can target",
        ),
        ("{kind: Gateway, name: way}", "is of a kind that no policy can target"),
        (
            "{kind: ExternalService, name: api}",
            "is of a kind that no policy can target",
        ),
        (
            "{group: weft.dev, kind: ExternalServices, name: api}",
            "is of a kind that no policy can target",
        ),
        (
            "{group: weft.dev, kind: ExternalService, name: api}",
            "ExternalService shop/api does not exist",
        ),
        (
            "{group: gateway.networking.k8s.io, kind: Gateway, name: way}",
            "Gateway shop/way does not exist",
        ),
        (
            "{kind: Service, name: web, namespace: other}",
            "is in another namespace",
        ),
        ("{kind: Service, nmae: web}", "is no field the mesh knows"),
        ("{kind: Service}", "has no name"),
        ("7", "is no object"),
    ] {
        let translation = translation(&format!(
            "{}{}",
            shop(),
            policy(&format!("{{targetRefs: [{target}], rules: [{{}}]}}"))
        ));
        assert!(applied(workload(&translation, "shop/web")).is_empty());
        assert!(
            told(&translation)[0].contains(what),
            "{target} {:?}",
            told(&translation)
        );
    }
}

#[test]
fn problems_stand_at_their_line_and_move_with_it() {
    let mut translation = translation(&shop());
    let object = |line: u32| {
        let mut objects = objects(&policy("{rules: [{form: 7}]}"));
        let origin = crate::config::Origin {
            place: Some(Place {
                file: "shop.yaml".into(),
                line: 1,
            }),
            lines: [("spec.rules[0].form".to_owned(), line)].into_iter().collect(),
            problems: Vec::new(),
        };
        Change::Put(Box::new(objects.remove(0)), Arc::new(origin))
    };
    for line in [7, 9] {
        translation.change(object(line));
        assert!(translation.settle().is_some());
        let problem = translation.snapshot().problems.values().next().expect("a problem")[0].clone();
        assert_eq!(problem.place.expect("a place").line, line);
        assert_eq!(&*problem.field, "spec.rules[0].form");
    }
    translation.change(object(9));
    assert!(translation.settle().is_none(), "the same again is no news");
}

#[test]
fn a_rejected_object_stays_as_it_was_last_good() {
    let mut translation = translation(&format!("{}{}", shop(), policy("{rules: [{}]}")));
    let problem = Problem {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: "p".into(),
        },
        field: "spec".into(),
        what: "is no object.".into(),
        remedy: "Write one.".into(),
        place: None,
    };
    translation.change(Change::Reject(problem.clone()));
    assert!(translation.settle().is_some());
    assert_eq!(applied(workload(&translation, "shop/web")), ["p"]);
    assert_eq!(told(&translation), ["AuthorizationPolicy shop/p spec: is no object."]);
    translation.change(Change::Accept(problem.object));
    assert!(translation.settle().is_some());
    assert!(told(&translation).is_empty());
}

#[test]
fn a_traffic_policy_is_told_not_to_be_honoured() {
    let translation = translation(
        "{apiVersion: weft.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: t, namespace: shop}, spec: {}}",
    );
    assert_eq!(told(&translation).len(), 1);
}
