//! A call of the plugin, as the CNI specification has it (0.3.0 to 1.1.0). Comes in: environment and standard
//! input. Goes out: what is called for, or an error in the specification's form. Pure.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::PodName;

/// The versions of the specification whose calls and results we can pass on.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A sandbox joins a network.
    Add,
    /// A sandbox leaves it.
    Del,
    /// Is it as `ADD` left it?
    Check,
    /// Remove what belongs to sandboxes that are no more.
    Gc,
    /// Can you serve `ADD`?
    Status,
    /// Which versions do you speak?
    Version,
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is called for.
    pub verb: Verb,
    /// The sandbox's ID.
    pub container: Box<str>,
    /// Where its network namespace is.
    pub netns: PathBuf,
    /// Whose it is; `None` when the runtime is no kubelet's.
    pub pod: Option<PodName>,
    /// What the configuration says.
    pub config: Config,
}

/// Our entry in the CNI configuration, as the runtime passes it on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Version of the specification.
    #[serde(default)]
    pub cni_version: String,
    /// Where the agent listens.
    #[serde(default)]
    pub socket: PathBuf,
    /// How the API server is reached without the agent.
    #[serde(default)]
    pub kubeconfig: PathBuf,
    /// What the agent knew last.
    #[serde(default)]
    pub state: PathBuf,
    /// Namespaces whose pods are never captured.
    #[serde(default)]
    pub exclude_namespaces: Vec<String>,
    /// What the plugins before us made.
    #[serde(default)]
    pub prev_result: Option<Value>,
}

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// The specification's number.
    pub code: u32,
    /// One plain sentence.
    pub msg: String,
}

/// The system says no.
const IO: u32 = 5;
/// A version we do not speak.
const INCOMPATIBLE: u32 = 1;
/// A variable of the environment is missing or wrong.
const ENVIRONMENT: u32 = 4;
/// What cannot be decoded.
const UNDECODABLE: u32 = 6;
/// A configuration that cannot work.
const CONFIGURATION: u32 = 7;
/// Not now: try again later.
const LATER: u32 = 11;

impl Call {
    /// Understands a call.
    ///
    /// # Errors
    /// [`CniError`].
    pub fn parse(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Self, CniError> {
        let verb = match variable("CNI_COMMAND").as_deref() {
            Some("ADD") => Verb::Add,
            Some("DEL") => Verb::Del,
            Some("CHECK") => Verb::Check,
            Some("GC") => Verb::Gc,
            Some("STATUS") => Verb::Status,
            Some("VERSION") => Verb::Version,
            other => {
                let msg = format!("CNI_COMMAND is {:?}, which weft-cni does not know", other.unwrap_or(""));
                return Err(CniError { code: ENVIRONMENT, msg });
            }
        };
        let config: Config = serde_json::from_slice(input).map_err(|why| CniError {
            code: UNDECODABLE,
            msg: format!("the network configuration on standard input cannot be read: {why}"),
        })?;
        if verb != Verb::Version && !VERSIONS.contains(&&*config.cni_version) {
            return Err(CniError {
                code: INCOMPATIBLE,
                msg: format!(
                    "the network configuration has cniVersion {:?}; weft-cni speaks {}",
                    config.cni_version,
                    VERSIONS.join(", ")
                ),
            });
        }
        Ok(Self {
            verb,
            container: variable("CNI_CONTAINERID").unwrap_or_default().into(),
            netns: variable("CNI_NETNS").unwrap_or_default().into(),
            pod: variable("CNI_ARGS").as_deref().and_then(pod),
            config,
        })
    }

    /// The result of the plugins before us, which is ours.
    ///
    /// # Errors
    /// [`CniError`] when there is none: we make no network by ourselves.
    pub fn result(&self) -> Result<&Value, CniError> {
        self.config.prev_result.as_ref().ok_or_else(|| CniError {
            code: CONFIGURATION,
            msg: "there is no prevResult: weft-cni must stand behind another plugin in the list".to_owned(),
        })
    }

    /// The addresses that the plugins before us gave the sandbox.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self
            .config
            .prev_result
            .as_ref()
            .and_then(|result| result.get("ips")?.as_array());
        let address = |ip: &Value| {
            let (address, _) = ip.get("address")?.as_str()?.split_once('/')?;
            address.parse().ok()
        };
        ips.into_iter().flatten().filter_map(address).take(8).collect()
    }

    /// Whether the pod is of a namespace that is never captured.
    pub fn is_excluded(&self, pod: &PodName) -> bool {
        self.config
            .exclude_namespaces
            .iter()
            .any(|name| **name == *pod.namespace)
    }
}

impl CniError {
    /// The sandbox must wait.
    pub fn later(why: impl Into<String>) -> Self {
        Self {
            code: LATER,
            msg: why.into(),
        }
    }

    /// The system says no.
    pub fn io(why: &str) -> Self {
        Self {
            code: IO,
            msg: why.to_owned(),
        }
    }

    /// What goes to standard output.
    pub fn to_json(&self, version: &str) -> Value {
        let version = if version.is_empty() { "1.0.0" } else { version };
        json!({ "cniVersion": version, "code": self.code, "msg": self.msg })
    }
}

/// What VERSION answers.
pub(super) fn versions() -> Value {
    let [.., newest] = VERSIONS;
    json!({ "cniVersion": newest, "supportedVersions": VERSIONS })
}

/// `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=…`
fn pod(arguments: &str) -> Option<PodName> {
    let value = |key: &str| {
        let pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value);
        found.next_back().filter(|value| !value.is_empty())
    };
    Some(PodName {
        namespace: value("K8S_POD_NAMESPACE")?.into(),
        name: value("K8S_POD_NAME")?.into(),
        uid: value("K8S_POD_UID").unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARGS: &str =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u-1";

    fn parse(variables: &[(&str, &str)], input: &str) -> Result<Call, CniError> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Call::parse(find, input.as_bytes())
    }

    #[test]
    fn a_runtimes_call_is_understood() {
        let input = r#"{"cniVersion":"1.0.0","name":"pods","type":"weft-cni","socket":"/s","excludeNamespaces":["kube-system"],
            "prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"},{"address":"fd00::7/64"},{"address":"x"}]}}"#;
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_ARGS", ARGS),
        ];
        let call = parse(&variables, input).unwrap();
        let pod = call.pod.clone().unwrap();
        assert_eq!(
            (call.verb, &*pod.namespace, &*pod.name, &*pod.uid),
            (Verb::Add, "shop", "cart-1", "u-1")
        );
        let addresses: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(call.addresses(), addresses);
        assert_eq!(call.result().unwrap()["ips"][0]["gateway"], "10.0.0.1");
        assert!(!call.is_excluded(&pod));
        let system = PodName {
            namespace: "kube-system".into(),
            ..pod
        };
        assert!(call.is_excluded(&system));
    }

    #[test]
    fn calls_that_cannot_be_served_say_why_in_the_specifications_numbers() {
        let good = r#"{"cniVersion":"1.0.0"}"#;
        for (command, input, code) in [
            ("", good, 4),
            ("UPDATE", good, 4),
            ("ADD", "{", 6),
            ("ADD", r#"{"cniVersion":"0.2.0"}"#, 1),
            ("ADD", r#"{"cniVersion":"2.0.0"}"#, 1),
            ("ADD", "{}", 1),
        ] {
            assert_eq!(
                parse(&[("CNI_COMMAND", command)], input).unwrap_err().code,
                code,
                "{command} {input}"
            );
        }
        let call = parse(&[("CNI_COMMAND", "ADD")], good).unwrap();
        assert_eq!((call.result().unwrap_err().code, call.pod), (7, None));
        parse(&[("CNI_COMMAND", "VERSION")], "{}").unwrap();
        assert_eq!(
            CniError::later("w").to_json("0.4.0"),
            json!({"cniVersion": "0.4.0", "code": 11, "msg": "w"})
        );
    }

    #[test]
    fn a_pod_is_known_only_by_namespace_and_name() {
        assert_eq!(pod(""), None);
        assert_eq!(pod("K8S_POD_NAME=a"), None);
        assert_eq!(pod("K8S_POD_NAME=a;K8S_POD_NAMESPACE="), None);
        assert_eq!(&*pod("K8S_POD_NAME=a;K8S_POD_NAMESPACE=n").unwrap().uid, "");
    }

    proptest! {
        #[test]
        fn no_call_panics(arguments in ".{0,99}", input in ".{0,99}", ips in "[\\[\\]{}\":,ipsadre0-9/.]{0,60}") {
            let variables = [("CNI_COMMAND", "ADD"), ("CNI_ARGS", &*arguments)];
            let _ = parse(&variables, &input);
            let _ = parse(&variables, &format!("{{\"cniVersion\":\"1.0.0\",\"prevResult\":{ips}}}")).map(|call| call.addresses());
        }
    }
}
