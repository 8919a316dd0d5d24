//! The agent's side of the plugin's questions. A pod is who the snapshot says it is; the runtime only names it.

use std::{net::IpAddr, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use act::config::Reader;
use decide::snapshot::Snapshot;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::ask::{Answer, PodName, Question, decode, encode};
use crate::{
    capture::{Cluster, PodNamespace, Progress, Sandboxes, Tally, is_wanted},
    zds::{Announcements, ListenError, Listener, Packets, SocketFile, bind},
};

/// How long a pod may be unknown before the plugin is told to find out by itself.
const KNOWN: Duration = Duration::from_secs(1);
/// How long a capture may take by default before the sandbox is refused; the runtime tries again with another.
pub const CAPTURE: Duration = Duration::from_secs(15);
/// How long the annotation is waited for. Without it the pod starts all the same: an API server that cannot take
/// it cannot hear that the pod is ready either.
const ANNOTATE: Duration = Duration::from_secs(2);
/// How long the addresses of a new sandbox may take to be usable, and how often that is tried.
const SETTLE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
/// How long the tunnels of a pod whose sandbox is removed may take to end; less than the plugin waits.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a plugin may take to ask.
const ASK: Duration = Duration::from_secs(2);
/// Questions answered at once.
const MOST: usize = 512;

/// What the agent answers from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    /// This node.
    pub node: Arc<str>,
    /// Who the pods are.
    pub reader: Reader,
    /// Where their namespaces go.
    pub sandboxes: Arc<Sandboxes>,
    /// How far they are.
    pub tally: Tally,
    /// What the ztunnels of this node serve.
    pub announcements: Announcements,
    /// Where Events are put.
    pub cluster: Option<Cluster>,
    /// How long a capture may take.
    pub patience: Duration,
}

impl Server {
    /// Listens at `path`, and answers the future that serves for as long as it is polled.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(self, path: &Path) -> Result<impl Future<Output = ()> + use<>, ListenError> {
        let (listener, file) = bind(path)?;
        Ok(async move { self.accept(&listener, file).await })
    }

    async fn accept(self, listener: &Listener, _file: SocketFile) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(), if sessions.len() < MOST => accepted,
                Some(_) = sessions.join_next() => continue,
            };
            match accepted {
                Ok(packets) => {
                    let server = self.clone();
                    sessions.spawn(async move { server.serve(&packets).await });
                }
                Err(why) => {
                    tracing::warn!(%why, "could not accept a CNI plugin");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One question and its answer.
    async fn serve(&self, packets: &Packets) {
        let Ok(Ok(Some(received))) = timeout(ASK, packets.receive()).await else {
            return;
        };
        let answer = match decode(&received.packet) {
            Some(question) => self.answer(question, received.descriptors).await,
            None => Answer::unknown("the agent does not understand this plugin"),
        };
        if let Some(packet) = encode(&answer) {
            // a plugin that went away asks again
            let _ = timeout(ASK, packets.send(&packet, None)).await;
        }
    }

    async fn answer(&self, question: Question, descriptors: Vec<OwnedFd>) -> Answer {
        match question {
            Question::Del { pod, container } => {
                self.sandboxes.removed(&pod.uid, &container);
                self.farewell(&pod.uid, descriptors).await;
                Answer::NotEnrolled
            }
            Question::Check { pod } => match self.standing(&pod).await {
                Err(answer) => answer,
                Ok(()) => match self.tally.progress(&pod.uid) {
                    Some(Progress::Captured { .. }) => Answer::Captured,
                    Some(Progress::Waits(why)) => Answer::waits(&why),
                    None => Answer::waits("the agent has not begun to capture it"),
                },
            },
            Question::Add {
                pod,
                container,
                addresses,
            } => {
                if let Err(answer) = self.standing(&pod).await {
                    return answer;
                }
                let answer = match self.take(&pod, &container, &addresses, descriptors).await {
                    Ok(namespace) => self.capture(&pod, &namespace).await,
                    Err(why) => Answer::waits(&why),
                };
                if let Answer::Waits { why } = &answer {
                    self.refused(&pod, why);
                }
                answer
            }
        }
    }

    /// The pod's network goes when the plugin returns. While it is there, its ztunnel says GOAWAY to the pod's peers,
    /// and their tunnels end.
    async fn farewell(&self, uid: &Arc<str>, descriptors: Vec<OwnedFd>) {
        let Some(file) = descriptors.into_iter().next() else {
            return;
        };
        let namespace = match self.sandboxes.leaving(uid, file) {
            Ok(namespace) => namespace,
            Err(why) => return tracing::debug!(%uid, %why, "a sandbox is removed that cannot be looked into"),
        };
        if !self.announcements.withdraw_from(uid, namespace.inode()) {
            return;
        }
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until && namespace.sockets().is_ok_and(|sockets| sockets.our_connections > 0) {
            sleep(LOOK).await;
        }
    }

    /// `Ok`: it is to be captured here.
    async fn standing(&self, pod: &PodName) -> Result<(), Answer> {
        let mut reader = self.reader.clone();
        let known = |snapshot: &Snapshot| snapshot.complete && snapshot.workload(&pod.uid).is_some();
        let Ok(snapshot) = timeout(KNOWN, reader.wait_for(known)).await else {
            return Err(Answer::unknown(&if self.reader.load().complete {
                format!("no Pod with the UID {} is known to the agent yet", pod.uid)
            } else {
                "the agent has not got its configuration yet".to_owned()
            }));
        };
        judge(&snapshot, pod, &self.node)
    }

    async fn take(
        &self,
        pod: &PodName,
        container: &str,
        addresses: &[IpAddr],
        descriptors: Vec<OwnedFd>,
    ) -> Result<PodNamespace, String> {
        let mut descriptors = descriptors.into_iter();
        let (Some(file), None) = (descriptors.next(), descriptors.next()) else {
            return Err("the plugin handed over no network namespace".to_owned());
        };
        let namespace = self
            .sandboxes
            .hand(&pod.uid, container, file)
            .map_err(|why| why.to_string())?;
        let until = Instant::now() + SETTLE;
        // a new IPv6 address is not usable before it is known to be nobody else's
        while let Err(why) = namespace.has(addresses) {
            if Instant::now() > until {
                self.sandboxes.removed(&pod.uid, container);
                return Err(why.to_string());
            }
            sleep(LOOK).await;
        }
        Ok(namespace)
    }

    async fn capture(&self, pod: &PodName, namespace: &PodNamespace) -> Answer {
        let is_captured = |told: bool| match self.tally.progress(&pod.uid) {
            Some(Progress::Captured { inode, annotated }) => inode == namespace.inode() && (annotated || !told),
            _ => false,
        };
        let until = |told: bool| async move {
            let mut changes = self.tally.changes();
            while !is_captured(told) && changes.changed().await.is_ok() {}
        };
        if timeout(self.patience, until(false)).await.is_err() {
            return Answer::waits(&match self.tally.progress(&pod.uid) {
                Some(Progress::Waits(why)) => why,
                _ => "the agent has not begun to capture it".to_owned(),
            });
        }
        if self.cluster.is_some() && timeout(ANNOTATE, until(true)).await.is_err() {
            tracing::warn!(pod = %pod.name, namespace = %pod.namespace, "a pod starts before its annotation is written");
        }
        Answer::Captured
    }

    fn refused(&self, pod: &PodName, why: &str) {
        tracing::warn!(pod = %pod.name, namespace = %pod.namespace, why, "a new pod does not start before it is captured");
        metrics::counter!("weft_cni_sandboxes_refused_total").increment(1);
        let (Some(cluster), Some(known)) = (&self.cluster, self.reader.load().workload(&pod.uid).cloned()) else {
            return;
        };
        let note = format!("It does not start before it is captured: {why}");
        cluster.warn(&crate::capture::announced(&known), "WaitsForCapture", note);
    }
}

/// `Ok`: this pod, on this node, is to be captured. The names must be those of the object with this UID.
fn judge(snapshot: &Snapshot, pod: &PodName, node: &str) -> Result<(), Answer> {
    let Some(known) = snapshot.workload(&pod.uid) else {
        return Err(Answer::unknown("the pod is gone again"));
    };
    if (&known.namespace, &known.name) != (&pod.namespace, &pod.name) {
        let why = format!(
            "the Pod with the UID {} is {}/{}, not {}/{}",
            pod.uid, known.namespace, known.name, pod.namespace, pod.name
        );
        return Err(Answer::unknown(&why));
    }
    if !is_wanted(known) {
        return Err(Answer::NotEnrolled);
    }
    if *known.node != *node {
        return Err(Answer::waits(&format!(
            "the pod is on node {}, this is {node}",
            known.node
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use decide::model::{Capture, MeshSettings};

    use super::*;
    use crate::capture::testing::workload;

    #[test]
    fn only_the_object_with_this_uid_says_whether_and_as_whom_a_pod_is_captured() {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        for (uid, node, capture) in [
            ("mine", "n1", Capture::Awaited),
            ("elsewhere", "n2", Capture::Awaited),
            ("outside", "n1", Capture::Outside),
            ("native", "n1", Capture::Native),
        ] {
            snapshot.put_workload(Arc::new(workload(uid, node, capture)));
        }
        let judged = |namespace: &str, name: &str, uid: &str| {
            let pod = PodName {
                namespace: namespace.into(),
                name: name.into(),
                uid: uid.into(),
            };
            judge(&snapshot, &pod, "n1")
        };
        assert_eq!(judged("shop", "mine", "mine"), Ok(()));
        assert_eq!(judged("shop", "outside", "outside"), Err(Answer::NotEnrolled));
        assert_eq!(judged("shop", "native", "native"), Err(Answer::NotEnrolled));
        assert!(matches!(
            judged("shop", "elsewhere", "elsewhere"),
            Err(Answer::Waits { .. })
        ));
        // names of one pod and the UID of another are nobody's
        for (namespace, name, uid) in [
            ("shop", "outside", "mine"),
            ("other", "mine", "mine"),
            ("shop", "mine", "new"),
        ] {
            assert!(
                matches!(judged(namespace, name, uid), Err(Answer::Unknown { .. })),
                "{namespace}/{name}"
            );
        }
    }
}
