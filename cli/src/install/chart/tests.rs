//! The chart against Helm's own rendering, the kustomize base, and the binaries' rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use act::config::kubernetes::Scope;

use super::*;

/// Sets of values under which Helm and we must agree; the last entries are `--set`.
const SETS: &[(&str, &[&str])] = &[
    ("default", &[]),
    (
        "everything",
        &[
            "namespace.create=true",
            "image.registry=registry.example:5000/mesh",
            "image.tag=1.2.3-rc1",
            "image.pullPolicy=Never",
            "image.pullSecrets={one,two}",
            "trustDomain=example.org",
            "clusterDomain=example.net",
            "bindAddress=[::]",
            "log.level=info\\,ztunnel=debug",
            "log.format=text",
            "ztunnel.workers=4",
            "ztunnel.graceSeconds=120",
            "ztunnel.maxSurge=10%",
            "ztunnel.resources.limits.memory=1Gi",
            "cni.confDir=/etc/cni/other",
            "cni.binDir=/usr/lib/cni",
            "cni.ownConfig=true",
            "ca.replicas=3",
            "ca.leafLife=60s",
            "meshConfig.podCidrs={10.244.0.0/16,fd00:10::/56}",
            "meshConfig.outbound=RegistryOnly",
        ],
    ),
    (
        "least",
        &[
            "ca.replicas=1",
            "metrics.annotations=false",
            "networkPolicies.enabled=false",
        ],
    ),
];

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn rendered(set: &[&str], namespace: &str, service: &str) -> Result<Vec<Object>, String> {
    let values = ValueOptions {
        set: set.iter().map(|it| (*it).to_owned()).collect(),
        ..ValueOptions::default()
    };
    render(&Release {
        namespace,
        service,
        values: &values,
    })
}

fn by_title(all: Vec<Object>) -> BTreeMap<String, Value> {
    all.into_iter().map(|object| (object.title(), object.value)).collect()
}

/// Asks the Helm that the variable HELM names for what it renders.
fn helms(helm: &Path, set: &[&str]) -> String {
    let mut command = Command::new(helm);
    command.args(["template", "weft", "--namespace=weft-system", "--kube-version=1.34.0"]);
    for assignment in set {
        command.args(["--set", assignment]);
    }
    let output = command.arg(tree().join("manifests/chart")).output().expect("HELM runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What Helm renders is kept in files, so that the law holds on machines without Helm; with Helm the files are
/// checked, and with UPDATE written.
#[test]
fn our_rendering_is_helms_object_by_object() {
    let helm = std::env::var_os("HELM").map(PathBuf::from);
    for (name, set) in SETS {
        let path = tree().join(format!("cli/tests/helm/{name}.yaml"));
        if let Some(helm) = &helm {
            let now = helms(helm, set);
            if update() {
                fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
                fs::write(&path, &now).expect("it can be written");
            }
            assert_eq!(
                now,
                fs::read_to_string(&path).unwrap_or_default(),
                "{name}: run with UPDATE=1"
            );
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let theirs = by_title(objects(name, &kept).expect("Helm renders YAML"));
        let ours = by_title(rendered(set, "weft-system", "Helm").expect("the values fit"));
        assert!(ours.len() > 15);
        for (title, object) in &ours {
            assert_eq!(
                Some(object),
                theirs.get(title),
                "{name}: {title}; after a change of the chart run UPDATE=1 HELM=$(which helm) cargo test -p weft helms"
            );
        }
        assert_eq!(ours.len(), theirs.len(), "{name}: Helm renders more");
    }
}

#[test]
fn the_kustomize_base_is_what_the_chart_renders() {
    let folder = tree().join("manifests/kustomize/base");
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for object in rendered(&["namespace.create=true"], "weft-system", "kustomize").expect("the defaults fit") {
        let file = format!("{}.yaml", object.label("app.kubernetes.io/name").unwrap_or("mesh"));
        let text = files.entry(file).or_insert_with(|| {
            "# Rendered from manifests/chart: change it there, then UPDATE=1 cargo test -p weft kustomize.\n".into()
        });
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&object.value).expect("plain data"));
    }
    for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with("crds/")) {
        files.insert(name.replace('/', "-"), (*text).to_owned());
    }
    let list: Vec<_> = files.keys().cloned().collect();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list,
    });
    files.insert(
        "kustomization.yaml".into(),
        serde_yaml::to_string(&kustomization).expect("plain data"),
    );
    if update() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("it can be made");
        for (name, text) in &files {
            fs::write(folder.join(name), text).expect("it can be written");
        }
    }
    let found: BTreeSet<_> = fs::read_dir(&folder)
        .expect("manifests/kustomize/base is there")
        .map(|entry| {
            entry
                .expect("it can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(found, files.keys().cloned().collect());
    for (name, text) in &files {
        let found = fs::read_to_string(folder.join(name)).expect("it can be read");
        assert!(
            &found == text,
            "{name} differs from the chart: run UPDATE=1 cargo test -p weft kustomize"
        );
    }
}

#[test]
fn every_value_has_its_place_in_the_schema_and_unknown_ones_are_refused() {
    let error = rendered(&["ca.replica=3"], "weft-system", "weft").unwrap_err();
    assert!(error.contains("there is no value ca.replica"), "{error}");
    for wrong in [
        "ca.replicas=0",
        "image.pullPolicy=Sometimes",
        "bindAddress=1.2.3.4",
        "meshConfig.outbund=AllowAny",
        "log=info",
    ] {
        rendered(&[wrong], "weft-system", "weft").unwrap_err();
    }
    let law: Value = serde_json::from_str(file("values.schema.json").unwrap()).unwrap();
    let own: Value = serde_yaml::from_str(values().unwrap()).unwrap();
    assert_eq!(unlisted(&law, &own, "values"), Vec::<String>::new());
}

/// Values without a law of their own, and maps that would take any.
fn unlisted(law: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(fields) = value.as_object() else {
        return Vec::new();
    };
    if path.ends_with(".resources") {
        return Vec::new();
    }
    let mut found = Vec::new();
    if law["additionalProperties"] != false {
        found.push(path.to_owned());
    }
    for (name, field) in fields {
        found.extend(unlisted(&law["properties"][name], field, &format!("{path}.{name}")));
    }
    found
}

#[test]
fn every_value_is_explained() {
    let lines: Vec<_> = values().unwrap().lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let key = line.trim_start().split_once(':').map(|(key, _)| key);
        let plain = key.is_some_and(|key| key.chars().all(char::is_alphanumeric));
        let nested = line.starts_with("  ");
        let deeper = line.starts_with("    ");
        let resources = [
            "resources",
            "metrics",
            "log",
            "namespace",
            "networkPolicies",
            "requests",
            "limits",
        ];
        if plain && !deeper && !resources.contains(&key.unwrap_or_default()) {
            assert!(
                lines[at - 1].trim_start().starts_with('#'),
                "nothing explains {line:?} ({nested})"
            );
        }
    }
}

/// What a role may do: group, resource, names, verb.
fn rights(role: &Value) -> BTreeSet<(String, String, String, String)> {
    let list = |rule: &Value, field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.map(|it| it.as_str().expect("text").to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        assert_eq!(rule.as_object().expect("a rule").get("nonResourceURLs"), None);
        let names = list(rule, "resourceNames").join(",");
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    all.insert((group.clone(), resource.clone(), names.clone(), verb));
                }
            }
        }
    }
    all
}

/// Group, resource, name and verbs.
type Right = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// What a scope watches, and more, a verb each.
fn wanted(scope: Option<&Scope>, more: &[Right]) -> BTreeSet<(String, String, String, String)> {
    let mut wanted = BTreeSet::new();
    let mut add = |group: &str, resource: &str, name: &str, verbs: &[&str]| {
        let right = |verb: &&str| {
            (
                group.to_owned(),
                resource.to_owned(),
                name.to_owned(),
                (*verb).to_owned(),
            )
        };
        wanted.extend(verbs.iter().map(right));
    };
    for right in scope.into_iter().flat_map(Scope::resources) {
        add(right.group, right.resource, "", right.verbs);
    }
    for (group, resource, name, verbs) in more {
        add(group, resource, name, verbs);
    }
    wanted
}

/// Each role holds what its process watches, and besides it what stands here, and nothing else.
#[test]
fn nobody_may_more_than_its_part_needs() {
    let node = String::new();
    let own: &[(&str, Option<Scope>, &[Right])] = &[
        ("weft-ztunnel", Some(Scope::Ztunnel), &[]),
        ("weft-waypoint", Some(Scope::Waypoint), &[]),
        (
            "weft-cni",
            Some(Scope::Agent { node }),
            &[
                ("", "pods", "", &["patch"]),
                ("", "events", "", &["create", "patch"]),
                ("events.k8s.io", "events", "", &["create", "patch"]),
            ],
        ),
        (
            "weft-ca",
            Some(Scope::Authority),
            &[
                ("authentication.k8s.io", "tokenreviews", "", &["create"]),
                ("", "configmaps", "weft-root", &["list", "create", "patch", "delete"]),
            ],
        ),
        (
            "weft-ca-keys",
            None,
            &[
                ("", "secrets", "weft-ca-keys", &["get", "update"]),
                ("", "secrets", "", &["create"]),
            ],
        ),
    ];
    let all = rendered(&[], "weft-system", "weft").unwrap();
    let roles: BTreeMap<_, _> = all
        .iter()
        .filter(|it| it.kind_name().ends_with("Role"))
        .map(|it| (it.name(), &it.value))
        .collect();
    assert_eq!(roles.len(), own.len());
    for (name, scope, more) in own {
        assert_eq!(rights(roles[name]), wanted(scope.as_ref(), more), "{name}");
    }
    // A Secret is read in one namespace only.
    assert_eq!(roles["weft-ca-keys"]["kind"], "Role");
}

#[test]
fn every_pod_drops_all_capabilities_and_only_node_parts_run_as_root() {
    for object in rendered(&[], "weft-system", "weft").unwrap() {
        let spec = &object.value["spec"]["template"]["spec"];
        let Some(container) = spec["containers"].get(0) else {
            continue;
        };
        let own = &container["securityContext"];
        assert_eq!(own["capabilities"]["drop"], json!(["ALL"]), "{}", object.title());
        assert_eq!(
            (&own["readOnlyRootFilesystem"], &own["allowPrivilegeEscalation"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(own["privileged"], Value::Null);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert!(
            container["resources"]["requests"]["memory"].is_string()
                && container["resources"]["requests"]["cpu"].is_string()
        );
        let added = &own["capabilities"]["add"];
        match object.name() {
            "ztunnel" => assert_eq!(added, &json!(["SYS_ADMIN", "NET_ADMIN"])),
            "weft-cni" => assert_eq!(added, &json!(["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"])),
            _ => {
                assert_eq!(added, &Value::Null, "{}", object.title());
                assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            }
        }
    }
}
