//! A CA in this process, an issuer of tokens that plays the API server, and pods.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use act::{
    authority::{
        CaClient, CaOptions,
        proto::{IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse},
    },
    certs::{Authority, CertError, Leaf, Signed},
    config::Reader,
    net::Acceptor,
};
use ca::{
    authenticate::Authentication,
    authority::SigningAuthority,
    chain::Given,
    host::Host,
    issuers::Issuers,
    listen::{self, Bounds},
    proof::NodeRule,
    rate::Rate,
    service::{Service, Terms, system_clock},
    store::Directory,
};
use decide::{
    model::{Capture, Fence, Identity, Labels, MeshSettings, Phase, PolicySet, WaypointKey, Workload},
    snapshot::Snapshot,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const ISSUER: &str = "https://kubernetes.test";
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Signs tokens as the API server does.
pub(crate) struct Issuer {
    pub(crate) key: EncodingKey,
    pub(crate) id: String,
}

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) issuer: Issuer,
    pub(crate) service: Arc<Service>,
    pub(crate) address: SocketAddr,
    pub(crate) publish: Box<dyn Fn(Snapshot)>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Issuer {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            key: EncodingKey::from_ec_der(&KeyPair::generate().unwrap().serialize_der()),
            id: id.to_owned(),
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        encode(&header, claims, &self.key).unwrap()
    }

    /// A token of a pod of `namespace/account` on `node`, valid for an hour.
    pub(crate) fn token(&self, node: &str, namespace: &str, account: &str, pod: &str) -> String {
        self.sign(&claims(node, namespace, account, pod))
    }

    /// The token of the ztunnel of a node.
    pub(crate) fn node_token(&self, node: &str) -> String {
        self.token(node, "weft-system", "ztunnel", &format!("ztunnel-{node}"))
    }
}

pub(crate) fn seconds() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

pub(crate) fn claims(node: &str, namespace: &str, account: &str, pod: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["weft-ca"],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": seconds(),
        "nbf": seconds(),
        "exp": seconds() + 3600,
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": node, "uid": "n"},
            "pod": {"name": pod, "uid": pod},
            "serviceaccount": {"name": account, "uid": "s"},
        },
    })
}

pub(crate) fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

pub(crate) fn pod(uid: &str, account: &str, node: &str) -> Workload {
    Workload {
        uid: uid.into(),
        name: uid.into(),
        namespace: "shop".into(),
        node: node.into(),
        identity: identity(account),
        addresses: Vec::new(),
        labels: Labels::default(),
        owner: uid.into(),
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: Arc::new(PolicySet::default()),
    }
}

/// `web` on node-1, `db` on node-2, and a waypoint's pod of account `waypoint` on node-1.
pub(crate) fn pods() -> Snapshot {
    let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
    snapshot.complete = true;
    let mut waypoint = pod("waypoint-1", "waypoint", "node-1");
    waypoint.capture = Capture::Native;
    waypoint.serves = Some(WaypointKey {
        namespace: "shop".into(),
        name: "waypoint".into(),
    });
    for workload in [pod("web-1", "web", "node-1"), pod("db-1", "db", "node-2"), waypoint] {
        snapshot.put_workload(Arc::new(workload));
    }
    snapshot
}

fn terms() -> Terms {
    Terms {
        life: Duration::from_secs(86_400),
        most_life: Duration::from_secs(7 * 86_400),
        nodes: NodeRule {
            account: ("weft-system".to_owned(), "ztunnel".to_owned()),
            require_pod: false,
        },
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Issuer::new("key-1"), |_, _| {}).await
    }

    /// In a directory that may hold an earlier CA's state.
    pub(crate) async fn with(
        directory: TempDir,
        issuer: Issuer,
        change: impl FnOnce(&mut Service, &mut Bounds),
    ) -> Self {
        let path = |name: &str| directory.path().join(name);
        fs::write(path("jwks.json"), json!({"keys": [issuer.jwk()]}).to_string()).unwrap();
        if !path("issuers.yaml").exists() {
            fs::write(path("issuers.yaml"), issuers_file()).unwrap();
        }
        let state = Box::new(Directory::open(&path("state")).unwrap());
        let authority = SigningAuthority::open(state, &Given::default(), "cluster.local", SystemTime::now()).await;
        let authority = Arc::new(authority.unwrap());
        let (publisher, reader) = Reader::new(pods());
        let mut service = Service {
            authentication: Authentication {
                issuers: Issuers::read(&path("issuers.yaml")).unwrap(),
                reviews: None,
            },
            reader,
            lookup: None,
            authority: authority.clone(),
            rate: Rate::new(10_000, 10_000),
            terms: terms(),
            clock: system_clock(),
        };
        let mut bounds = Bounds::default();
        change(&mut service, &mut bounds);
        let service = Arc::new(service);
        let host = Arc::new(Host::new(vec!["ca.test".try_into().unwrap()], authority, SystemTime::now()).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listen::serve(
            Acceptor::new(listener).unwrap(),
            host.tls().unwrap(),
            service.clone(),
            bounds,
            stop.clone(),
            LONG,
        ));
        let version = Mutex::new(1);
        let publish = Box::new(move |mut snapshot: Snapshot| {
            let mut version = version.lock().unwrap();
            *version += 1;
            snapshot.version = *version;
            publisher.publish(snapshot);
        });
        Self {
            directory,
            issuer,
            service,
            address,
            publish,
            stop,
            served,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that holds this token.
    pub(crate) fn client(&self, token: &str) -> CaClient {
        client(
            self.address,
            &self.path("state/root.pem"),
            &self.token_file(token),
            "24h",
        )
    }

    pub(crate) fn token_file(&self, token: &str) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = self.path(&format!("token-{count}"));
        fs::write(&file, token).unwrap();
        file
    }

    /// Stops, and gives back the directory once everything has ended.
    pub(crate) async fn stop(self) -> (TempDir, Issuer) {
        self.stop.cancel();
        tokio::time::timeout(LONG, self.served).await.unwrap().unwrap();
        drop(self.service);
        (self.directory, self.issuer)
    }
}

fn issuers_file() -> String {
    format!(
        "issuers:
          - {{issuer: '{ISSUER}', jwks: {{file: jwks.json}}, audiences: [weft-ca], kubernetes: true}}
          - issuer: https://ci.test
            jwks: {{file: jwks.json}}
            audiences: [weft-ca]
            identities: {{deployer: ['spiffe://cluster.local/ns/ci/sa/deployer']}}"
    )
}

pub(crate) fn client(address: SocketAddr, roots: &Path, token: &Path, life: &str) -> CaClient {
    CaClient::new(&CaOptions {
        ca: format!("https://{address}").parse().unwrap(),
        ca_root: roots.to_owned(),
        ca_name: Some("ca.test".to_owned()),
        token: token.to_owned(),
        leaf_life: humantime::parse_duration(life).unwrap(),
    })
    .unwrap()
}

/// A key and a CSR with these URI names.
pub(crate) fn request(uris: &[&str]) -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, pem)
}

/// Asks as a proxy does, and verifies the answer as a peer would.
pub(crate) async fn ask(client: &CaClient, wanted: &Identity) -> Result<Leaf, CertError> {
    let (key, csr) = request(&[]);
    let signed = client.sign(wanted, &csr).await?;
    Ok(verified(wanted, &key, signed))
}

pub(crate) fn verified(wanted: &Identity, key: &KeyPair, signed: Signed) -> Leaf {
    Leaf::verified(wanted, key.serialize_der().into(), signed, SystemTime::now()).unwrap()
}

/// Why a client was refused, and that it was refused rather than not answered.
pub(crate) async fn refusal(client: &CaClient, wanted: &Identity) -> String {
    match ask(client, wanted).await {
        Err(CertError::Refused { why, .. }) => why.to_string(),
        other => panic!("{wanted}: {other:?}"),
    }
}

/// A request as other programs make it.
pub(crate) fn raw(
    token: Option<&str>,
    csr: &str,
    wanted: Option<&str>,
    life: i64,
) -> tonic::Request<IstioCertificateRequest> {
    let metadata = wanted.map(|wanted| prost_types::Struct {
        fields: std::collections::BTreeMap::from([(
            IMPERSONATED_IDENTITY.to_owned(),
            prost_types::Value {
                kind: Some(prost_types::value::Kind::StringValue(wanted.to_owned())),
            },
        )]),
    });
    let mut request = tonic::Request::new(IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: life,
        metadata,
    });
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

/// The chain and roots of a raw answer.
pub(crate) fn signed(response: tonic::Response<IstioCertificateResponse>) -> Signed {
    let chain = response.into_inner().cert_chain;
    let (roots, chain) = chain.split_last().unwrap();
    let parse = |text: &String| act::certs::certificates_of(text.as_bytes()).unwrap();
    Signed {
        chain: chain.iter().flat_map(parse).collect(),
        roots: parse(roots),
    }
}
