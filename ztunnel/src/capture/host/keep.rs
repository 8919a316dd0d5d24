//! Keeping the host's rules: applied as pods come and go, loaded anew when the kubelet's cgroup is another one
//! (nftables knows a cgroup by its inode), repaired when somebody removed them.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use act::net::Netns;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    ProbeOptions,
    kubelet::{KubeletCgroup, NoCgroup},
    rules::{self, HostRules, Prober},
};
use crate::capture::{
    addresses::addresses,
    probes::Probes,
    programs::{ProgramError, nft, nft_tells},
};

/// How often the kubelet's cgroup is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks apart what costs more is looked at: the host's addresses, our rules, every process.
const LOOKS_PER_SURVEY: u32 = 16;
/// How long a kubelet that is not seen is waited for before the rules do without its cgroup.
const GRACE: Duration = Duration::from_secs(5);
/// How long a pod waits for the host's rules.
const PATIENCE: Duration = Duration::from_secs(8);

/// The host's rules. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    options: Arc<ProbeOptions>,
    wished: watch::Sender<Wished>,
    told: watch::Sender<Told>,
}

/// What the rules should hold.
#[derive(Debug, Clone, Default)]
struct Wished {
    version: u64,
    pods: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Whether every captured pod there is has been told: before, what an earlier agent left stays.
    settled: bool,
}

/// What the rules hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(in crate::capture) struct Told {
    #[serde(skip)]
    version: u64,
    mode: Mode,
    /// The kubelet's cgroup, as nftables names it.
    cgroup: Option<String>,
    /// Why no cgroup is used, or what failed last.
    why: Option<String>,
    /// The node's own addresses.
    from: BTreeSet<IpAddr>,
    /// Pods whose probes pass.
    pods: usize,
}

/// How the host tells its kubelet's connections from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// By the kubelet's cgroup.
    Cgroup,
    /// Not at all: every process of the host passes as its kubelet, to probed ports.
    Address,
    /// The rules cannot be applied: probes are judged as everybody's connections are.
    #[default]
    None,
}

impl Host {
    /// Rules that are not applied yet: [`Host::run`] does.
    pub fn new(options: ProbeOptions) -> Self {
        metrics::describe_gauge!(
            "weft_cni_probe_mode",
            "1 for how this node's kubelet is told from other processes of the host: by its cgroup, by address alone, or not"
        );
        let host = Self {
            options: Arc::new(options),
            wished: watch::Sender::default(),
            told: watch::Sender::default(),
        };
        gauge(Mode::None);
        host
    }

    /// Takes a pod's addresses into the rules, and answers what the pod should let through once they are in force.
    /// A pod without probed ports needs nothing of the host. Waits a few seconds at the most; rules that come
    /// later still are the same.
    pub async fn admit(&self, uid: &Arc<str>, addresses: BTreeSet<IpAddr>, probed: &[u16]) -> Probes {
        if probed.is_empty() {
            self.dismiss(uid);
            return Probes::default();
        }
        self.wished.send_if_modified(|wished| {
            if wished.pods.get(uid) == Some(&addresses) {
                return false;
            }
            wished.version += 1;
            wished.pods.insert(uid.clone(), addresses);
            true
        });
        let version = self.wished.borrow().version;
        let mut told = self.told.subscribe();
        let in_force = timeout(PATIENCE, told.wait_for(|told| told.version >= version)).await;
        if !matches!(in_force, Ok(Ok(_))) {
            tracing::warn!(%uid, "the host's rules for probes are not in force yet: until then this pod's probes are judged as other connections are");
        }
        self.let_through(probed)
    }

    /// Tells when what pods should let through may be otherwise, from now on.
    pub(in crate::capture) fn changes(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// What a pod with these probed ports should let through.
    pub fn let_through(&self, probed: &[u16]) -> Probes {
        if probed.is_empty() {
            return Probes::default();
        }
        Probes {
            from: self.told.borrow().from.clone(),
            sources: self.options.probe_source_ports,
            ports: probed.iter().copied().collect(),
        }
    }

    /// Takes a pod out of the rules.
    pub fn dismiss(&self, uid: &str) {
        self.wished.send_if_modified(|wished| {
            let was = wished.pods.remove(uid).is_some();
            wished.version += u64::from(was);
            was
        });
    }

    /// Every captured pod there is has been told: others that an earlier agent left in the rules go.
    pub fn settle(&self) {
        self.wished.send_if_modified(|wished| {
            let first = !wished.settled;
            wished.settled = true;
            wished.version += u64::from(first);
            first
        });
    }

    /// What is in force, as `/config_dump` tells it.
    pub fn dump(&self) -> serde_json::Value {
        serde_json::to_value(&*self.told.borrow()).unwrap_or_default()
    }

    /// Removes the rules.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn remove() -> Result<(), ProgramError> {
        nft(&Netns::own(), &rules::removed()).await.map(drop)
    }

    /// Keeps the rules, for ever.
    pub async fn run(self) -> Infallible {
        let mut wishes = self.wished.subscribe();
        let mut keeper = Keeper {
            inherited: inherited().await,
            host: self,
            started: Instant::now(),
            cgroup: None,
            prober: None,
            why: None,
            from: BTreeSet::new(),
            in_force: None,
        };
        let mut look = 0_u32;
        loop {
            let wished = wishes.borrow_and_update().clone();
            keeper.look(look.is_multiple_of(LOOKS_PER_SURVEY), wished).await;
            tokio::select! {
                () = sleep(LOOK) => look = look.wrapping_add(1),
                _ = wishes.changed() => {}
            }
        }
    }
}

/// What keeps the rules knows.
struct Keeper {
    host: Host,
    started: Instant,
    /// Addresses that stood in the rules at the start.
    inherited: BTreeSet<IpAddr>,
    cgroup: Option<KubeletCgroup>,
    prober: Option<Prober>,
    why: Option<String>,
    from: BTreeSet<IpAddr>,
    /// `None`: not known.
    in_force: Option<Option<HostRules>>,
}

impl Keeper {
    async fn look(&mut self, survey: bool, wished: Wished) {
        if survey {
            self.survey().await;
        }
        self.find_prober(survey);
        let Some(prober) = self.prober.clone() else { return };
        let rules = self.rules(prober, &wished);
        if self.in_force.as_ref() == Some(&rules) {
            return self.tell(&wished);
        }
        match self.apply(rules).await {
            Ok(()) => self.tell(&wished),
            Err(why) => self.tell_failure(&wished, &why),
        }
    }

    /// The host's addresses, and whether our rules still stand.
    async fn survey(&mut self) {
        match addresses(&Netns::own()).await {
            Ok(own) => self.from = own,
            Err(why) => tracing::warn!(%why, "cannot read the host's addresses; the last known ones count"),
        }
        let holds_rules = matches!(self.in_force, Some(Some(_)));
        if holds_rules && !standing().await {
            tracing::warn!("somebody removed the host's rules for probes: putting them back");
            self.in_force = None;
        }
    }

    /// A cgroup once found is kept until another is: without a kubelet there is nobody to be let through.
    fn find_prober(&mut self, survey: bool) {
        if self.cgroup.as_ref().is_some_and(KubeletCgroup::is_current) {
            return;
        }
        if self.prober == Some(Prober::Anybody) && !survey {
            return;
        }
        match KubeletCgroup::find(self.host.options.kubelet_cgroup.as_deref()) {
            Ok(found) => {
                tracing::info!(cgroup = found.path, "the kubelet's probes are known by its cgroup");
                self.prober = Some(Prober::Cgroup {
                    path: found.path.clone(),
                    level: found.level,
                });
                // the same path may be another cgroup than the rules mean
                self.in_force = None;
                self.why = None;
                self.cgroup = Some(found);
            }
            Err(why) if why.may_pass() && self.prober.is_none() && self.started.elapsed() < GRACE => {}
            Err(why) => {
                let said = why.to_string();
                let lost = self.cgroup.is_some() && !matches!(why, NoCgroup::Root(_));
                if !lost && self.prober != Some(Prober::Anybody) {
                    tracing::warn!(
                        why = said,
                        "probes: every process of this host passes as its kubelet, to the probed ports of captured pods"
                    );
                    (self.prober, self.cgroup) = (Some(Prober::Anybody), None);
                }
                self.why = Some(said);
            }
        }
    }

    fn rules(&self, prober: Prober, wished: &Wished) -> Option<HostRules> {
        let mut pods: BTreeSet<IpAddr> = wished.pods.values().flatten().copied().collect();
        if !wished.settled {
            pods.extend(&self.inherited);
        }
        (!pods.is_empty()).then_some(HostRules {
            prober,
            pods,
            sources: self.host.options.probe_source_ports,
            masquerade: self.host.options.masquerade_mark,
        })
    }

    async fn apply(&mut self, rules: Option<HostRules>) -> Result<(), ProgramError> {
        let script = rules.as_ref().map_or_else(rules::removed, rules::host);
        let applied = nft(&Netns::own(), &script).await;
        match (applied, rules) {
            (Ok(_), rules) => {
                self.in_force = Some(rules);
                Ok(())
            }
            // a kernel or an nft that knows no cgroups; a cgroup that went meanwhile is looked for again
            (Err(why), Some(rules))
                if rules.prober != Prober::Anybody && self.cgroup.as_ref().is_some_and(KubeletCgroup::is_current) =>
            {
                let anybody = HostRules {
                    prober: Prober::Anybody,
                    ..rules
                };
                nft(&Netns::own(), &rules::host(&anybody)).await?;
                tracing::warn!(%why, "probes: every process of this host passes as its kubelet, to the probed ports of captured pods");
                self.why = Some(why.to_string());
                (self.prober, self.cgroup) = (Some(Prober::Anybody), None);
                self.in_force = Some(Some(anybody));
                Ok(())
            }
            (Err(why), _) => Err(why),
        }
    }

    fn tell(&self, wished: &Wished) {
        let (mode, cgroup) = match &self.prober {
            Some(Prober::Cgroup { path, .. }) => (Mode::Cgroup, Some(path.clone())),
            Some(Prober::Anybody) => (Mode::Address, None),
            None => (Mode::None, None),
        };
        self.publish(Told {
            version: wished.version,
            mode,
            cgroup,
            why: self.why.clone(),
            from: self.from.clone(),
            pods: wished.pods.len(),
        });
    }

    /// Whether rules of before stand or not: what is in force is not what is wished, and nobody waits for it.
    fn tell_failure(&self, wished: &Wished, why: &ProgramError) {
        let why = why.to_string();
        if self.host.told.borrow().why.as_ref() != Some(&why) {
            tracing::warn!(why, "cannot apply the host's rules for probes; trying again");
        }
        self.publish(Told {
            version: wished.version,
            why: Some(why),
            pods: wished.pods.len(),
            ..Told::default()
        });
    }

    fn publish(&self, now: Told) {
        gauge(now.mode);
        self.host.told.send_if_modified(|told| {
            let other = *told != now;
            *told = now;
            other
        });
    }
}

fn gauge(mode: Mode) {
    for (each, label) in [
        (Mode::Cgroup, "cgroup"),
        (Mode::Address, "address"),
        (Mode::None, "none"),
    ] {
        metrics::gauge!("weft_cni_probe_mode", "mode" => label).set(if each == mode { 1.0 } else { 0.0 });
    }
}

/// Whether our rules stand on the host.
async fn standing() -> bool {
    let chain = nft_tells(&Netns::own(), &["list", "chain", "inet", rules::TABLE, rules::SOURCES]).await;
    chain.is_ok_and(|chain| chain.contains("snat to"))
}

/// Addresses of pods in the rules of an earlier agent; none where there are no rules.
async fn inherited() -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for set in rules::SETS {
        let told = nft_tells(&Netns::own(), &["-j", "list", "set", "inet", rules::TABLE, set]).await;
        found.extend(told.ok().and_then(|told| elements(&told)).unwrap_or_default());
    }
    found
}

/// A set's elements from nft's JSON.
fn elements(json: &str) -> Option<Vec<IpAddr>> {
    let told: serde_json::Value = serde_json::from_str(json).ok()?;
    let mut objects = told.get("nftables")?.as_array()?.iter();
    let set = objects.find_map(|object| object.get("set"))?;
    let elements = set.get("elem")?.as_array()?.iter();
    Some(elements.filter_map(|element| element.as_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_a_set_are_read_and_nonsense_is_not() {
        let told = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "pods4", "elem": ["10.0.0.2", "10.0.0.3"]}}]}"#;
        let expected = ["10.0.0.2", "10.0.0.3"].map(|it| it.parse::<IpAddr>().unwrap());
        assert_eq!(elements(told).unwrap(), expected);
        for nonsense in ["", "{}", r#"{"nftables": [{"set": {"name": "pods4"}}]}"#] {
            assert_eq!(elements(nonsense), None);
        }
    }

    #[tokio::test]
    async fn a_pod_nobody_probes_needs_nothing_of_the_host() {
        let host = Host::new(ProbeOptions::default());
        let addresses = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        let probes = host.admit(&"a".into(), addresses, &[]).await;
        assert_eq!(probes, Probes::default());
        assert_eq!(host.wished.borrow().version, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_does_not_wait_for_ever_and_lets_nobody_through_before_the_rules_stand() {
        let host = Host::new(ProbeOptions::default());
        let addresses = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        let probes = host.admit(&"a".into(), addresses, &[80]).await;
        assert!(probes.from.is_empty());
        assert_eq!(host.dump()["mode"], "none");
        host.dismiss("a");
        assert!(host.wished.borrow().pods.is_empty());
    }
}
