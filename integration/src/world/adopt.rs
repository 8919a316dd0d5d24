//! Makes the world what its directory says: pods that are new get their place and their programs, pods that are
//! gone lose them, Services and hosts files follow.

use std::{fs, path::PathBuf, sync::Arc};

use act::process::Failure;

use super::{
    command::{run, run_with_input},
    mesh::{self, Part},
    network::{self, NODES, Node},
    objects::{Objects, Pod},
    pods,
    services::rules,
    state::{Attached, State, World},
};

impl World {
    /// Makes the world what `objects` say.
    pub(super) async fn adopt(&self, objects: Arc<Objects>, tell: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        let gone: Vec<String> = state
            .attached
            .iter()
            .filter(|(_, attached)| !same_body(&objects, attached))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(&mut state, &key).await?;
        }
        let new: Vec<_> = objects
            .pods
            .values()
            .filter(|pod| !state.attached.contains_key(&pod.key()) && !pod.addresses.is_empty())
            .cloned()
            .collect();
        if !new.is_empty() {
            tell(&format!("{} pods, each with a network namespace of its own", new.len()));
        }
        for pod in &new {
            self.attach(&mut state, pod).await?;
        }
        state.objects = objects.clone();
        for pod in objects.pods.values() {
            pods::furnish(pod, &objects, &self.run)?;
        }
        self.serve(&objects).await?;
        drop(state);
        self.populate(&objects, &new, tell).await
    }

    async fn attach(&self, state: &mut State, pod: &Pod) -> Result<(), Failure> {
        let node = Node::named(&pod.node).ok_or_else(|| {
            Failure(format!(
                "Pod {} is on node {:?}; the world's nodes are node-1 and node-2",
                pod.key(),
                pod.node
            ))
        })?;
        state.ports += 1;
        let port = state.ports;
        if !pod.host_network {
            network::attach(pod, node, port).await?;
            let file = self.namespace_file(pod);
            fs::write(&file, "").map_err(|error| Failure(format!("{} cannot be made: {error}", file.display())))?;
            let from = format!("/run/netns/{}", network::namespace(pod));
            run(&["mount", "--bind", &from, &file.display().to_string()]).await?;
        }
        let pod = pod.clone();
        state.attached.insert(pod.key(), Attached { pod, port });
        Ok(())
    }

    async fn remove(&self, state: &mut State, key: &str) -> Result<(), Failure> {
        let Some(Attached { pod, port }) = state.attached.remove(key) else {
            return Ok(());
        };
        for launch in pods::launches(&pod, &self.run) {
            if let Some(mut process) = state.processes.remove(&launch.name) {
                process.kill().await;
            }
        }
        if !pod.host_network {
            let file = self.namespace_file(&pod);
            // As container runtimes do it: whoever has it open keeps the namespace, not the place.
            run(&["umount", "--lazy", &file.display().to_string()]).await?;
            let _ = fs::remove_file(&file);
            network::detach(&pod, port).await?;
        }
        Ok(())
    }

    /// kube-proxy's part.
    async fn serve(&self, objects: &Objects) -> Result<(), Failure> {
        let rules = rules(objects);
        for node in NODES {
            let mut words = node.enter();
            words.extend(["nft", "-f", "-"].map(Into::into));
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            run_with_input(&words, &rules).await?;
        }
        Ok(())
    }

    /// The kubelets' part, for pods that just got their place.
    async fn populate(&self, objects: &Objects, new: &[Pod], tell: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
        let mut parts: Vec<_> = new.iter().filter_map(|pod| Some((Part::of(pod)?, pod))).collect();
        parts.sort_by_key(|(part, _)| *part);
        if self.settings.mesh {
            for (part, pod) in parts {
                if part != Part::Waypoint {
                    tell(&format!("{} on {}", pod.name, pod.node));
                    self.start_part(objects, pod).await?;
                }
            }
        }
        // As the CNI plugin would: no program of a pod starts before the pod is captured.
        for pod in new.iter().filter(|pod| self.settings.mesh && objects.enrolled(pod)) {
            self.wait_for(&format!("{} being captured", pod.key()), || self.listens_at(pod, 15008))
                .await?;
        }
        tell("the workloads");
        for pod in new {
            match Part::of(pod) {
                Some(Part::Waypoint) if self.settings.mesh => {
                    tell(&format!("waypoint {} on {}", pod.key(), pod.node));
                    self.start_part(objects, pod).await?;
                }
                Some(_) => {}
                None => self.start_pod(pod).await?,
            }
        }
        Ok(())
    }

    async fn start_part(&self, objects: &Objects, pod: &Pod) -> Result<(), Failure> {
        self.write_token(pod)?;
        let launch = mesh::launch(pod, objects, &self.run, &self.settings)?;
        let name = launch.name.clone();
        let process = launch.start()?;
        self.state.lock().await.processes.insert(name.clone(), process);
        let part = Part::of(pod);
        self.wait_for(&format!("{name} being ready"), || async {
            match part {
                // The agent waits for its ztunnel, which is started after it or before it.
                Some(Part::Cni | Part::Ztunnel) => self.run.socket(&name).exists(),
                _ => crate::observe::admin(&self.run.socket(&name), "/healthz/ready")
                    .await
                    .is_ok(),
            }
        })
        .await
    }

    async fn start_pod(&self, pod: &Pod) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        for launch in pods::launches(pod, &self.run) {
            state.processes.insert(launch.name.clone(), launch.start()?);
        }
        drop(state);
        let ports = pod.spec.containers.iter().flat_map(|it| &it.ports);
        for port in ports {
            let port = port.container_port;
            self.wait_for(&format!("{} listening on {port}", pod.key()), || {
                self.listens_at(pod, port)
            })
            .await?;
        }
        Ok(())
    }

    async fn listens_at(&self, pod: &Pod, port: u16) -> bool {
        self.listens(&pod.key(), port).await
    }

    fn namespace_file(&self, pod: &Pod) -> PathBuf {
        self.run.join("netns").join(&pod.node).join(&pod.uid)
    }
}

/// Whether what changed of a pod can change while it runs: its labels and its readiness.
fn same_body(objects: &Objects, attached: &Attached) -> bool {
    objects.pods.get(&attached.pod.key()).is_some_and(|now| {
        let was = Pod {
            labels: now.labels.clone(),
            ready: now.ready,
            ..attached.pod.clone()
        };
        was == *now
    })
}
