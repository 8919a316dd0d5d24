//! How programs are run against the cluster: here, behind a person's own words such as `nsenter`, or inside the
//! network namespaces of the project's own cluster.

use std::{path::PathBuf, time::Duration};

use act::process::Failure;

use crate::world::{Finished, finish};

/// Where the cluster is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReachOptions {
    /// The directory of a cluster made by `weft-cluster up`; without it, the cluster that KUBECONFIG names
    #[arg(long, env = "WEFT_CLUSTER", value_name = "DIR")]
    pub cluster: Option<PathBuf>,
    /// The program `weft-cluster`; default: beside this one
    #[arg(long, env = "WEFT_CLUSTER_TOOL", value_name = "FILE")]
    pub cluster_tool: Option<PathBuf>,
    /// Words to put before kubectl and weft, such as "nsenter --net=/run/netns/NAME"
    #[arg(long, value_name = "WORDS", conflicts_with = "cluster")]
    pub through: Option<String>,
}

/// The way to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    through: Vec<String>,
    tool: Option<Vec<String>>,
    directory: Option<PathBuf>,
}

impl Reach {
    /// The way that the options say.
    ///
    /// # Errors
    /// When this program's own place cannot be told.
    pub fn new(options: &ReachOptions) -> Result<Self, Failure> {
        let Some(directory) = &options.cluster else {
            let through = options.through.as_deref().unwrap_or_default();
            return Ok(Self {
                through: through.split_whitespace().map(ToOwned::to_owned).collect(),
                tool: None,
                directory: None,
            });
        };
        let tool = match &options.cluster_tool {
            Some(tool) => tool.clone(),
            None => beside("weft-cluster")?,
        };
        let tool = vec![
            tool.display().to_string(),
            "--dir".to_owned(),
            directory.display().to_string(),
        ];
        let exec = ["exec", "--"].map(ToOwned::to_owned);
        Ok(Self {
            through: [&*tool, &exec].concat(),
            tool: Some(tool),
            directory: Some(directory.clone()),
        })
    }

    /// Whether nodes and components can be touched, beyond what the API server lets anybody do.
    pub fn is_ours(&self) -> bool {
        self.tool.is_some()
    }

    /// The file with the key that signs the cluster's tokens; `None` on a cluster that is not ours.
    pub fn token_key(&self) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join("pki/service-accounts.key"))
    }

    /// The words that run a program against the API server.
    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let words = words.iter().map(ToString::to_string);
        self.through.iter().cloned().chain(words).collect()
    }

    /// The words that run a program on a node, in its network and its mounts; `None` on a cluster that is not ours.
    pub fn node_words(&self, node: &str, words: &[&str]) -> Option<Vec<String>> {
        let mut all = self.tool.clone()?;
        all.extend(
            ["exec", "--node", node, "--"]
                .iter()
                .chain(words)
                .map(ToString::to_string),
        );
        Some(all)
    }

    /// The words of `weft-cluster`; `None` on a cluster that is not ours.
    pub fn tool_words(&self, words: &[&str]) -> Option<Vec<String>> {
        let mut all = self.tool.clone()?;
        all.extend(words.iter().map(ToString::to_string));
        Some(all)
    }
}

/// Runs words to their end.
///
/// # Errors
/// When the program cannot be started.
pub(super) async fn run(words: &[String], input: &str, deadline: Duration) -> Result<Finished, Failure> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    finish(&words, input, deadline).await
}

/// A program that was built beside this one.
///
/// # Errors
/// When this program's own place cannot be told.
pub(super) fn beside(program: &str) -> Result<PathBuf, Failure> {
    let exe = std::env::current_exe().map_err(|error| Failure(format!("this program cannot be found: {error}")))?;
    Ok(exe.with_file_name(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_cluster_lets_nobody_touch_its_nodes() {
        let options = ReachOptions {
            through: Some("nsenter --net=/run/netns/a".into()),
            ..ReachOptions::default()
        };
        let reach = Reach::new(&options).unwrap();
        assert_eq!(
            reach.words(&["kubectl", "get"]),
            ["nsenter", "--net=/run/netns/a", "kubectl", "get"]
        );
        assert_eq!(reach.node_words("node1", &["nft"]), None);
        assert!(!reach.is_ours() && reach.tool_words(&["restart"]).is_none());
    }

    #[test]
    fn our_own_cluster_is_reached_through_its_tool() {
        let options = ReachOptions {
            cluster: Some("/c".into()),
            cluster_tool: Some("/bin/weft-cluster".into()),
            through: None,
        };
        let reach = Reach::new(&options).unwrap();
        let words = reach.node_words("node1", &["nft", "list"]).unwrap();
        assert_eq!(
            words.join(" "),
            "/bin/weft-cluster --dir /c exec --node node1 -- nft list"
        );
        assert_eq!(
            reach.words(&["kubectl"]).join(" "),
            "/bin/weft-cluster --dir /c exec -- kubectl"
        );
    }
}
