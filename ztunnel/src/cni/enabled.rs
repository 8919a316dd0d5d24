//! The namespaces in the mesh, kept on disk for a plugin without an agent and for the agent's next start; and the
//! kubeconfig beside it, kept fresh.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use act::config::{MODE, Reader};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{access::Access, known::Known};
use crate::capture::is_wanted;

/// How often the token's file is looked at.
const LOOK: Duration = Duration::from_secs(20);

type Names = BTreeSet<Arc<str>>;

/// Keeps both files for ever.
pub async fn keep(state: PathBuf, kubeconfig: PathBuf, reader: Reader, client: Option<Client>) {
    let access = Access::of_pod(|name| std::env::var(name).ok()).filter(|_| client.is_some());
    let (tell, labelled) = watch::channel(None);
    let watching = async {
        match client {
            Some(client) => follow(client, &tell).await,
            None => drop(tell.send_replace(Some(Names::new()))),
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = watching => {}
        () = write(state, labelled, reader) => {}
        () = refresh(access, kubeconfig) => {}
    }
}

/// Follows the namespaces with our label. The first whole list counts, not what comes before it.
async fn follow(client: Client, tell: &watch::Sender<Option<Names>>) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let config = watcher::Config::default().labels(&format!("{MODE}=ambient"));
    let mut events = watcher(namespaces, config).default_backoff().boxed();
    let mut listing = Names::new();
    while let Some(event) = events.next().await {
        let name = |it: PartialObjectMeta<Namespace>| it.metadata.name.map(Arc::from);
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(it)) => listing.extend(name(it)),
            Ok(Event::InitDone) => drop(tell.send_replace(Some(std::mem::take(&mut listing)))),
            Ok(Event::Apply(it)) => tell.send_modify(|all| {
                all.get_or_insert_default().extend(name(it));
            }),
            Ok(Event::Delete(it)) => tell.send_modify(|all| {
                if let (Some(all), Some(name)) = (all, name(it)) {
                    all.remove(&name);
                }
            }),
            Err(why) => tracing::debug!(%why, "cannot watch the namespaces of the mesh"),
        }
    }
}

/// Writes what is known whenever it changes. Nothing before everything is known: what was known last counts.
async fn write(path: PathBuf, mut labelled: watch::Receiver<Option<Names>>, mut reader: Reader) {
    let mut written = None;
    loop {
        let snapshot = reader.load();
        let names = labelled.borrow_and_update().clone();
        if let (Some(mut enabled), true) = (names, snapshot.complete) {
            let wanted = snapshot.workloads.values().filter(|workload| is_wanted(workload));
            enabled.extend(wanted.map(|workload| workload.namespace.clone()));
            let known = Known { enabled };
            if written.as_ref() != Some(&known) {
                match known.write(&path) {
                    Ok(()) => written = Some(known),
                    Err(why) => {
                        tracing::warn!(path = %path.display(), %why, "cannot write down the namespaces of the mesh")
                    }
                }
            }
        }
        tokio::select! {
            _ = reader.changed() => {}
            changed = labelled.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}

async fn refresh(access: Option<Access>, path: PathBuf) {
    let Some(access) = access else {
        return std::future::pending().await;
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(why) = access.write(&path) {
            tracing::warn!(path = %path.display(), %why, "cannot write the CNI plugin's kubeconfig");
        }
    }
}
