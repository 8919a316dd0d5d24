//! What the shell may offer in the middle of a line: names of namespaces, pods, Services and proxies, asked of the
//! cluster that the line is for. Comes in: the line so far. Goes out: names, or nothing. Never: a word about why
//! there are none, or a wait that a person would feel as a hang.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Command;
use clap_complete::{
    CompleteEnv, Shell,
    engine::CompletionCandidate,
    env::{EnvCompleter, Shells},
};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    cluster::{ClusterOptions, block_on},
    pods,
};

/// The longest the API server is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Objects that are asked for: more would be no help.
const MOST: u32 = 500;
/// The variable by which the shell's script asks.
const ASKED: &str = "COMPLETE";

/// Answers the shell's script where it asks; whether it did.
pub(crate) fn answer(command: fn() -> Command) -> bool {
    let here = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(command).try_complete(std::env::args_os(), here.as_deref());
    // Whoever completes cannot show an error; the line stays as it is.
    answered.unwrap_or(true)
}

/// The script that has a shell ask this program.
///
/// # Errors
/// When there is none for this shell.
pub(crate) fn script(shell: Shell) -> Result<String, String> {
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter = shells
        .completer(&shell.to_string())
        .ok_or_else(|| format!("there is no completion for {shell}"))?;
    let mut script = Vec::new();
    completer
        .write_registration(ASKED, "weft", "weft", &program(), &mut script)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// This program as the script calls it: as it was called, so that it is found from every directory.
fn program() -> String {
    let called = PathBuf::from(std::env::args_os().next().unwrap_or_else(|| "weft".into()));
    let found = match called.components().count() {
        0 | 1 => called,
        _ => std::path::absolute(&called).unwrap_or(called),
    };
    found.to_string_lossy().into_owned()
}

/// Namespaces.
pub(crate) fn namespaces() -> Vec<CompletionCandidate> {
    offered(async |client| {
        Ok(all::<Namespace>(&client)
            .await
            .into_iter()
            .map(|(_, name)| name)
            .collect())
    })
}

/// Pods, as `namespace/name`.
pub(crate) fn sources() -> Vec<CompletionCandidate> {
    offered(async |client| Ok(slashed(all::<Pod>(&client).await)))
}

/// Services as `name.namespace`, then pods as `namespace/name`: a port is still to be said.
pub(crate) fn destinations() -> Vec<CompletionCandidate> {
    offered(async |client| {
        let services = all::<Service>(&client).await.into_iter();
        let services = services.map(|(namespace, name)| format!("{name}.{namespace}"));
        Ok(services.chain(slashed(all::<Pod>(&client).await)).collect())
    })
}

/// Proxies, as `weft status` names them.
pub(crate) fn proxies() -> Vec<CompletionCandidate> {
    offered(async |client| {
        let parts = pods::parts(&client).await?;
        Ok(parts.iter().map(|part| pods::proxy(&client, &part.pod).name).collect())
    })
}

fn slashed(names: Vec<(String, String)>) -> Vec<String> {
    names
        .into_iter()
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect()
}

/// Names of the cluster that the line is for; none where it does not tell them in time.
fn offered(list: impl AsyncFnOnce(Client) -> Result<Vec<String>, String>) -> Vec<CompletionCandidate> {
    let cluster = meant(std::env::args_os());
    let named = block_on(async {
        let asked = async { list(cluster.client().await?).await };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Ok(Vec::new()))
    });
    named
        .unwrap_or_default()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// The cluster that a line is for, however far it is written.
fn meant(words: impl IntoIterator<Item = OsString>) -> ClusterOptions {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let value = |flag: &str| {
        let joined = words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        let apart = || {
            let at = words.iter().position(|word| word == flag)?;
            words.get(at + 1).map(String::as_str)
        };
        joined
            .or_else(apart)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    ClusterOptions {
        kubeconfig: value("--kubeconfig").map(PathBuf::from),
        context: value("--context"),
    }
}

/// Namespaces and names of the first objects of a kind; none where they may not be listed.
async fn all<K>(client: &Client) -> Vec<(String, String)>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default().limit(MOST)).await;
    let objects = listed.map(|list| list.items).unwrap_or_default();
    objects
        .into_iter()
        .map(|object| {
            let metadata = object.metadata;
            (
                metadata.namespace.unwrap_or_default(),
                metadata.name.unwrap_or_default(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> (Option<String>, Option<String>) {
        let cluster = meant(line.split(' ').map(OsString::from));
        (cluster.kubeconfig.map(|it| it.display().to_string()), cluster.context)
    }

    #[test]
    fn the_cluster_is_the_one_the_line_names() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("weft why sh"), (None, None));
        assert_eq!(of("weft --context c why --kubeconfig=k sh"), (some("k"), some("c")));
        assert_eq!(of("weft why --kubeconfig"), (None, None));
    }

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = script(shell).expect("a script");
            assert!(script.contains(ASKED) && script.contains("weft"), "{shell}: {script}");
        }
    }

    #[test]
    fn a_silent_api_server_offers_nothing_and_is_not_waited_for() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = silent.local_addr().expect("bound");
        let asked = block_on(async {
            let config = kube::Config::new(format!("http://{address}").parse().expect("an address"));
            let client = Client::try_from(config).map_err(|error| error.to_string())?;
            Ok(timeout(PATIENCE, all::<Pod>(&client)).await)
        });
        assert!(asked.expect("a runtime").is_err(), "it would wait for ever");
    }
}
