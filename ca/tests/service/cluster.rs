//! Two replicas of the program against a real API server, with the rights that the manifests give and no others.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use act::{authority::CaClient, certs::CertError, config::kubernetes};
use decide::model::Identity;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    program::free,
    stage::{LONG, ask, client, refusal},
};

/// The manifests' rendered objects of the ca.
const MANIFEST: &str = include_str!("../../../manifests/kustomize/base/ca.yaml");
const SHOP: &str = "ca-test-shop";
const MESH: &str = "ca-test-mesh";
const NODES: [&str; 2] = ["ca-test-1", "ca-test-2"];

/// The objects of the test, as the cluster's administrator sees them.
struct Cluster {
    client: Client,
    files: TempDir,
}

impl Cluster {
    /// The manifests' rights in namespaces of our own.
    async fn laid() -> Self {
        let cluster = Self {
            client: kubernetes::client()
                .await
                .expect("KUBECONFIG names a cluster to test on"),
            files: tempfile::tempdir().unwrap(),
        };
        cluster.clear().await;
        for name in [MESH, SHOP] {
            let labels = json!({"weft.dev/dataplane-mode": "ambient"});
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            cluster.apply(namespace).await;
        }
        for document in serde_yaml::Deserializer::from_str(&MANIFEST.replace("weft-system", MESH)) {
            let mut object = Value::deserialize(document).unwrap();
            let kind = object["kind"].as_str().unwrap().to_owned();
            if ![
                "ServiceAccount",
                "Role",
                "RoleBinding",
                "ClusterRole",
                "ClusterRoleBinding",
            ]
            .contains(&&*kind)
            {
                continue;
            }
            if kind.starts_with("Cluster") {
                object["metadata"]["name"] = MESH.into();
            }
            if kind == "ClusterRoleBinding" {
                object["roleRef"]["name"] = MESH.into();
            }
            cluster.apply(object).await;
        }
        for (namespace, account) in [
            (MESH, "ztunnel"),
            (SHOP, "web"),
            (SHOP, "db"),
            (SHOP, "host"),
            (SHOP, "plain"),
        ] {
            let metadata = json!({"name": account, "namespace": namespace});
            cluster
                .apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
                .await;
        }
        cluster.pod(MESH, "ztunnel-1", "ztunnel", NODES[0], false).await;
        cluster.pod(SHOP, "web-1", "web", NODES[0], false).await;
        cluster.pod(SHOP, "db-1", "db", NODES[1], false).await;
        cluster.pod(SHOP, "host-1", "host", NODES[0], true).await;
        cluster.pod(SHOP, "plain-1", "plain", NODES[0], false).await;
        cluster.write_kubeconfig().await;
        cluster
    }

    async fn apply(&self, object: Value) {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", "v1"),
        };
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        let how = PatchParams::apply("ca-test").force();
        api.patch(name, &how, &Patch::Apply(&object)).await.unwrap();
    }

    /// Runs nowhere: no kubelet has such a node.
    async fn pod(&self, namespace: &str, name: &str, account: &str, node: &str, host: bool) {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": node, "serviceAccountName": account, "hostNetwork": host,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "none", "image": "localhost/none"}],
            },
        }))
        .await;
    }

    /// A token as the kubelet asks for it, bound to a pod unless it is for none.
    async fn token(&self, namespace: &str, account: &str, pod: Option<&str>, audience: &str) -> String {
        let bound = pod.map(|pod| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.to_owned()),
            uid: None,
        });
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Some(audience)
                    .filter(|it| !it.is_empty())
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                bound_object_ref: bound,
                expiration_seconds: Some(3600),
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let made = accounts.create_token_request(account, &PostParams::default(), &request);
        made.await.unwrap().status.unwrap().token
    }

    /// For the programs: the administrator's server, the ca's own token.
    async fn write_kubeconfig(&self) {
        let own = std::env::var("KUBECONFIG").expect("KUBECONFIG");
        let mut config: Value = serde_yaml::from_str(&fs::read_to_string(own).unwrap()).unwrap();
        let token = self.token(MESH, "ca", None, "").await;
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": token});
        }
        fs::write(self.file("kubeconfig"), config.to_string()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn replica(&self, listen: SocketAddr) -> Child {
        let flags = [
            ("--config", "kubernetes".to_owned()),
            ("--root-namespace", MESH.to_owned()),
            ("--state-secret", format!("{MESH}/weft-ca-keys")),
            ("--ztunnel-account", format!("{MESH}/ztunnel")),
            ("--name", "ca.test".to_owned()),
            ("--listen", listen.to_string()),
            ("--admin", free().to_string()),
            ("--metrics", free().to_string()),
            ("--ready", free().to_string()),
        ];
        Command::new(env!("CARGO_BIN_EXE_ca"))
            .args(flags.iter().flat_map(|(flag, value)| [*flag, value]))
            .env("KUBECONFIG", self.file("kubeconfig"))
            .stdout(Stdio::from(
                fs::File::create(self.file(&listen.port().to_string())).unwrap(),
            ))
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn roots(&self) -> Vec<u8> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), MESH);
        let found = async {
            loop {
                if let Some(map) = maps.get_opt("weft-root").await.unwrap()
                    && let Some(roots) = map.data.and_then(|mut data| data.remove("root.pem"))
                {
                    return roots.into_bytes();
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(LONG, found).await.expect("the ca publishes its roots")
    }

    /// Takes away what an earlier run left, and what this one made.
    async fn clear(&self) {
        let now = DeleteParams::default();
        let _ = Api::<ClusterRole>::all(self.client.clone()).delete(MESH, &now).await;
        let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(self.client.clone());
        let _ = bindings.delete(MESH, &now).await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for name in [MESH, SHOP] {
            let _ = namespaces.delete(name, &now).await;
        }
        let gone = async {
            for name in [MESH, SHOP] {
                while namespaces.get_opt(name).await.unwrap().is_some() {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        };
        timeout(LONG, gone).await.expect("the namespaces of the test go");
    }
}

fn shop(account: &str) -> Identity {
    Identity::new("cluster.local", SHOP, account).unwrap()
}

async fn until_signed(client: &CaClient, wanted: &Identity) {
    let signed = async {
        while let Err(error) = ask(client, wanted).await {
            assert!(!matches!(error, CertError::Unfit { .. }), "{error}");
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, signed).await.expect("the ca signs");
}

#[tokio::test]
#[ignore = "wants a real cluster: KUBECONFIG=… cargo test -p ca --test service -- --ignored"]
async fn replicas_share_a_root_and_believe_the_api_server_alone() {
    let cluster = Cluster::laid().await;
    let listen = [free(), free()];
    let mut replicas = listen.map(|listen| cluster.replica(listen));
    let roots = cluster.file("root.pem");
    fs::write(&roots, cluster.roots().await).unwrap();
    let held = |name: &str, token: String| {
        let file = cluster.file(name);
        fs::write(&file, token).unwrap();
        file
    };
    let node = held(
        "node",
        cluster.token(MESH, "ztunnel", Some("ztunnel-1"), "weft-ca").await,
    );
    let at = |listen: SocketAddr, token: &Path| client(listen, &roots, token, "24h");
    for listen in listen {
        until_signed(&at(listen, &node), &shop("web")).await;
    }

    // A pod that has just been made is no matter of luck.
    cluster.pod(SHOP, "web-2", "plain", NODES[0], false).await;
    ask(&at(listen[1], &node), &shop("plain")).await.unwrap();

    for (wanted, why) in [
        (shop("db"), "no enrolled running pod on node ca-test-1"),
        (shop("host"), "uses its node's network"),
        (shop("nobody"), "no enrolled running pod"),
    ] {
        let refused = refusal(&at(listen[0], &node), &wanted).await;
        assert!(refused.contains(why), "{wanted}: {refused}");
    }
    let plain = cluster.token(SHOP, "plain", Some("plain-1"), "weft-ca").await;
    let other = cluster.token(MESH, "ztunnel", Some("ztunnel-1"), "vault").await;
    let unbound = cluster.token(MESH, "ztunnel", None, "weft-ca").await;
    let mut forged = cluster.token(MESH, "ztunnel", Some("ztunnel-1"), "weft-ca").await;
    let signature = forged.rfind('.').unwrap() + 1;
    forged.replace_range(signature..signature + 4, "AAAA");
    for (token, why) in [
        (plain, "only as a waypoint"),
        (other, "audience is another"),
        (unbound, "names no pod"),
        (forged, "does not authenticate the token"),
    ] {
        let file = held("other", token);
        let refused = refusal(&at(listen[1], &file), &shop("web")).await;
        assert!(refused.contains(why), "{refused}");
    }
    let audit = fs::read_to_string(cluster.file(&listen[1].port().to_string())).unwrap();
    for part in ["audience is another", "names no pod", "only as a waypoint", "plain"] {
        assert!(audit.contains(part), "{part}: {audit}");
    }

    // What others break is put right; keys that were deleted come back the same.
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), MESH);
    maps.delete("weft-root", &DeleteParams::default()).await.unwrap();
    assert_eq!(cluster.roots().await, fs::read(&roots).unwrap());
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), MESH);
    let keys = secrets.get("weft-ca-keys").await.unwrap().data.unwrap();
    assert_eq!(keys.len(), 4);
    for replica in &mut replicas {
        replica.kill().await.unwrap();
    }
    let again = free();
    let _replica = cluster.replica(again);
    until_signed(&at(again, &node), &shop("web")).await;
    assert_eq!(secrets.get("weft-ca-keys").await.unwrap().data.unwrap(), keys);

    // The token of a pod that is gone proves nobody.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(cluster.client.clone(), MESH);
    pods.delete("ztunnel-1", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let refused = async {
        while ask(&at(again, &node), &shop("web")).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(LONG, refused).await.expect("a deleted pod's token is refused");
    cluster.clear().await;
}
