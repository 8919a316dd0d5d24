use decide::model::Exclusions;

use super::*;

const RANGES: &str = "
---
{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {podCidrs: [10.1.0.0/16], serviceCidrs: [10.2.0.0/16, 'fd02::/64']}}
";

fn annotated(kind: &str, name: &str, annotations: &str) -> String {
    match kind {
        "Namespace" => format!(
            "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, annotations: {annotations}}}}}\n"
        ),
        _ => format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, uid: uid-{name}, annotations: {annotations}}}, \
             spec: {{nodeName: node-1}}, status: {{phase: Running, podIP: 10.1.0.1}}}}\n"
        ),
    }
}

fn excluded(translation: &Translation) -> Option<Exclusions> {
    translation
        .snapshot()
        .exclusions
        .get("uid-web")
        .map(|it| (**it).clone())
}

#[test]
fn a_pod_and_its_namespace_exclude_together_and_never_the_mesh_itself() {
    let namespace = annotated(
        "Namespace",
        "shop",
        "{weft.dev/exclude-outbound-cidrs: '192.0.2.0/24, 2001:db8::/32'}",
    );
    let pod = annotated(
        "Pod",
        "web",
        "{weft.dev/exclude-outbound-cidrs: 10.0.0.0/8, weft.dev/exclude-outbound-ports: '5432,22'}",
    );
    let mut translation = translation(&format!("{RANGES}{namespace}{pod}"));
    assert_eq!(told(&translation), Vec::<String>::new());
    let found = excluded(&translation).expect("exclusions");
    let networks: Vec<String> = found.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
    assert_eq!(found.ports, [22, 5432]);
    let kept: Vec<String> = found.kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["10.1.0.0/16", "10.2.0.0/16", "fd02::/64"]);
    // Live, and gone with the pod.
    add(&mut translation, &annotated("Namespace", "shop", "{}"));
    assert_eq!(excluded(&translation).expect("exclusions").networks.len(), 1);
    remove(&mut translation, "Pod", "shop", "web");
    assert_eq!(excluded(&translation), None);
}

#[test]
fn an_exclusion_with_anything_wrong_in_it_excludes_nothing_and_is_told() {
    for (annotation, why) in [
        (
            "weft.dev/exclude-outbound-cidrs: '192.0.2.0/24,everything'",
            "cannot be read",
        ),
        (
            "weft.dev/exclude-outbound-cidrs: '192.0.2.0/24,10.1.2.0/24'",
            "lies in the mesh's own",
        ),
        ("weft.dev/exclude-outbound-cidrs: ''", "cannot be read"),
        ("weft.dev/exclude-outbound-ports: '80,0'", "cannot be read"),
        ("weft.dev/exclude-outbound-ports: '80,70000'", "cannot be read"),
        (
            "weft.dev/exclude-outbound-ports: '1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33'",
            "more than 32",
        ),
    ] {
        for kind in ["Pod", "Namespace"] {
            let (pod, namespace) = match kind {
                "Pod" => (format!("{{{annotation}}}"), "{}".to_owned()),
                _ => ("{}".to_owned(), format!("{{{annotation}}}")),
            };
            let yaml = format!(
                "{RANGES}{}{}",
                annotated("Namespace", "shop", &namespace),
                annotated("Pod", "web", &pod)
            );
            let translation = translation(&yaml);
            assert_eq!(excluded(&translation), None, "{annotation}");
            let about = told(&translation);
            assert!(
                about.len() == 1 && about[0].contains(why) && about[0].starts_with(kind),
                "{about:?}"
            );
        }
    }
}

#[test]
fn nothing_is_excluded_where_nobody_knows_the_meshs_own_addresses() {
    let pod = annotated("Pod", "web", "{weft.dev/exclude-outbound-ports: '22'}");
    let translation = translation(&pod);
    assert_eq!(excluded(&translation), None);
    assert!(
        told(&translation)[0].contains("which nobody knows"),
        "{:?}",
        told(&translation)
    );
}
