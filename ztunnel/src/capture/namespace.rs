//! One pod's network namespace, as the agent changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader},
    net::{IpAddr, UdpSocket},
    ops::RangeInclusive,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use act::net::Netns;
use decide::model::Exclusions;
use rustix::fs::{OFlags, fstat, fstatfs, stat};

use super::{
    Guard, Probes, Sandboxes,
    addresses::addresses,
    changes::Changes,
    migrate,
    programs::{ProgramError, ip, nft, nft_tells},
    rules::{self, Rules, SOURCE_KEPT, TABLE},
    sockets::Sockets,
};

/// Magic number of the file system that namespaces are files of (`statfs(2)`).
const NSFS: u64 = 0x6e73_6673;
/// Priority of our policy rules, before every routing table a pod might look up.
const PRIORITY: &str = "111";
/// The routing table that keeps answers on lo.
const ROUTES: &str = "100";

/// An open network namespace of a pod.
#[derive(Debug, Clone)]
pub struct PodNamespace {
    place: Place,
    file: Arc<OwnedFd>,
    inode: u64,
    netns: Netns,
}

/// Where a namespace was found.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A file named by the pod's UID.
    File(PathBuf),
    /// The sandbox of the pod with this UID.
    Sandbox(Arc<Sandboxes>, Arc<str>),
}

/// Why a pod's namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The runtime has not made it, or has removed it.
    #[error("{0} is not there: the container runtime makes it with the pod")]
    Absent(PathBuf),
    /// It is something else.
    #[error("{0} is no network namespace: --netns-dir must hold the pods' namespaces by their UID")]
    NotANamespace(PathBuf),
    /// The pod has no sandbox yet, or no longer.
    #[error("no process of the pod {0} runs on this node: the container runtime starts its sandbox first")]
    NoProcess(Arc<str>),
    /// It has not the addresses that the pod has.
    #[error("{path} has not the pod's address {address} ({why}): it is another's, or its status is old")]
    NotItsAddress {
        /// Where it was found.
        path: PathBuf,
        /// The address that is missing.
        address: IpAddr,
        /// What the system says.
        why: io::Error,
    },
    /// Too many sandboxes are being made at once.
    #[error("more than {0} pod sandboxes are being made at once")]
    TooMany(usize),
    /// It is the host's: a pod on the host's network, or the wrong directory.
    #[error("{0} is the network namespace of the host, which is never captured")]
    OurOwn(PathBuf),
    /// A UID that is no file name.
    #[error("the pod UID {0:?} is no file name")]
    BadUid(Arc<str>),
    /// The system says no.
    #[error("{0} cannot be used: {1}")]
    System(PathBuf, io::Error),
}

/// What the rules in a pod's namespace are to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Where nothing unproven may come in.
    pub guard: Guard,
    /// What its node's kubelet may reach past the ztunnel.
    pub probes: Probes,
    /// Whether the mesh answers names of this pod.
    pub names: bool,
    /// What the pod's own connections bypass the ztunnel for.
    pub exclusions: Exclusions,
}

/// How far the rules in a namespace go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No table of ours.
    Untouched,
    /// Our table redirects nothing.
    Released,
    /// Our table redirects.
    Captured,
}

impl PodNamespace {
    /// Opens the namespace of the pod with this UID.
    ///
    /// # Errors
    /// [`NamespaceError`]; no file in the directory can make this block.
    pub fn open(directory: &Path, uid: &Arc<str>) -> Result<Self, NamespaceError> {
        if uid.is_empty() || uid.contains(['/', '\0']) || matches!(&**uid, "." | "..") {
            return Err(NamespaceError::BadUid(uid.clone()));
        }
        let path = directory.join(&**uid);
        let system = |why: io::Error| NamespaceError::System(path.clone(), why);
        let opened = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path);
        let file: OwnedFd = match opened {
            Ok(file) => file.into(),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(NamespaceError::Absent(path)),
            Err(why) => return Err(system(why)),
        };
        Self::of(file, Place::File(path))
    }

    /// Takes the namespace behind a descriptor.
    ///
    /// # Errors
    /// [`NamespaceError`] when it is no network namespace, or our own.
    pub(super) fn of(file: OwnedFd, place: Place) -> Result<Self, NamespaceError> {
        let system = |why: io::Error| NamespaceError::System(place.label(), why);
        let kind = fstatfs(&file).map_err(|why| system(why.into()))?.f_type;
        if u64::try_from(kind) != Ok(NSFS) {
            return Err(NamespaceError::NotANamespace(place.label()));
        }
        let found = fstat(&file).map_err(|why| system(why.into()))?;
        let own = stat("/proc/self/ns/net").map_err(|why| system(why.into()))?;
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) {
            return Err(NamespaceError::OurOwn(place.label()));
        }
        let netns = Netns::new(file.try_clone().map_err(system)?);
        // entering shows that it is a namespace of the network, and that we may
        netns.run(|| Ok(())).map_err(|why| match why.kind() {
            io::ErrorKind::InvalidInput => NamespaceError::NotANamespace(place.label()),
            _ => system(why),
        })?;
        Ok(Self {
            place,
            inode: found.st_ino,
            file: Arc::new(file),
            netns,
        })
    }

    /// Its number, by which one namespace is told from another while either is open.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Where it was found, for people.
    pub(super) fn label(&self) -> PathBuf {
        self.place.label()
    }

    /// Refuses a namespace that has not all of these addresses.
    ///
    /// # Errors
    /// [`NamespaceError::NotItsAddress`].
    pub fn has(&self, addresses: &[IpAddr]) -> Result<(), NamespaceError> {
        for address in addresses {
            // only an address of the namespace's own can be bound
            let bound = self.netns.run(|| UdpSocket::bind((*address, 0)));
            bound.map_err(|why| NamespaceError::NotItsAddress {
                path: self.label(),
                address: *address,
                why,
            })?;
        }
        Ok(())
    }

    /// The namespace's descriptor, for those it is announced to.
    pub fn file(&self) -> Arc<OwnedFd> {
        self.file.clone()
    }

    /// Whether this still is the pod's namespace. When not, holding it would keep a dead pod's network alive.
    pub fn is_current(&self) -> bool {
        match &self.place {
            Place::File(path) => stat(path).is_ok_and(|found| found.st_ino == self.inode),
            Place::Sandbox(sandboxes, uid) => sandboxes.is_current(uid, self.inode),
        }
    }

    /// Tells when it may be another, or gone, from now on.
    pub(super) fn changes(&self) -> Changes {
        match &self.place {
            Place::File(_) => Changes::looked_for(),
            Place::Sandbox(sandboxes, uid) => sandboxes.changes(uid),
        }
    }

    /// Whether the pod's status cannot tell this namespace's addresses yet.
    pub(super) fn is_new(&self) -> bool {
        match &self.place {
            Place::File(_) => false,
            Place::Sandbox(sandboxes, uid) => sandboxes.is_new(uid),
        }
    }

    /// Captures the pod, or brings its rules up to date.
    ///
    /// # Errors
    /// [`ProgramError`]; what was in force before is in force still.
    pub async fn capture(&self, terms: &Terms) -> Result<(), ProgramError> {
        let rules = self
            .rules(terms.clone())
            .map_err(|why| ProgramError::NotRun { program: "nft", why })?;
        self.routes("add", "replace").await?;
        nft(&self.netns, &rules::captured(&rules)).await?;
        migrate::on(&self.netns).await;
        Ok(())
    }

    /// Redirects nothing more; connections that were redirected go on.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn release(&self) -> Result<(), ProgramError> {
        nft(&self.netns, &rules::released()).await.map(drop)
    }

    /// Removes everything of ours.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn remove(&self) -> Result<(), ProgramError> {
        if self.standing().await? != Standing::Untouched {
            migrate::back(&self.netns).await?;
            nft(&self.netns, &rules::removed()).await?;
        }
        self.routes("del", "del").await
    }

    /// Its addresses, but loopback's.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn addresses(&self) -> Result<BTreeSet<IpAddr>, ProgramError> {
        addresses(&self.netns).await
    }

    /// How far our rules in it go.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn standing(&self) -> Result<Standing, ProgramError> {
        let tables = nft_tells(&self.netns, &["list", "tables", "inet"]).await?;
        let ours = format!("table inet {TABLE}");
        if !tables.lines().any(|table| table.trim() == ours) {
            return Ok(Standing::Untouched);
        }
        let chain = nft_tells(&self.netns, &["list", "chain", "inet", TABLE, "redirect_outbound"]).await;
        Ok(match chain {
            Ok(chain) if chain.contains("redirect to") => Standing::Captured,
            _ => Standing::Released,
        })
    }

    /// Our counters' packets, by name.
    ///
    /// # Errors
    /// [`ProgramError`], also when our table is not there.
    pub async fn counters(&self) -> Result<BTreeMap<String, u64>, ProgramError> {
        let told = nft_tells(&self.netns, &["-j", "list", "counters", "table", "inet", TABLE]).await?;
        counters(&told).ok_or_else(|| ProgramError::Failed {
            program: "nft",
            said: "its JSON cannot be read".to_owned(),
        })
    }

    /// The TCP sockets in it.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sockets(&self) -> io::Result<Sockets> {
        // the tables are those of the namespace they were opened in; the second is missing without IPv6
        let (v4, v6) = self.netns.run(|| {
            let v6 = match File::open("/proc/thread-self/net/tcp6") {
                Err(why) if why.kind() == io::ErrorKind::NotFound => None,
                opened => Some(opened?),
            };
            Ok((File::open("/proc/thread-self/net/tcp")?, v6))
        })?;
        let mut sockets = Sockets::default();
        sockets.add(BufReader::new(v4))?;
        if let Some(v6) = v6 {
            sockets.add(BufReader::new(v6))?;
        }
        Ok(sockets)
    }

    fn rules(&self, terms: Terms) -> io::Result<Rules> {
        let listening = self.sockets()?.listening;
        let range = self
            .netns
            .run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"));
        let ephemeral = range.ok().and_then(|range| port_range(&range));
        Ok(Rules {
            guard: terms.guard,
            probes: terms.probes,
            names: terms.names,
            exclusions: terms.exclusions,
            listening,
            ephemeral: ephemeral.unwrap_or_else(|| Rules::default().ephemeral),
        })
    }

    fn has_ipv6(&self) -> bool {
        let off = self
            .netns
            .run(|| fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6"));
        off.is_ok_and(|off| off.trim() == "0")
    }

    /// Answers to what the ztunnel sends in a client's name are routed back over lo.
    async fn routes(&self, rule: &str, route: &str) -> Result<(), ProgramError> {
        let mark = format!("{SOURCE_KEPT:#x}");
        let families: &[&str] = if self.has_ipv6() { &["-4", "-6"] } else { &["-4"] };
        for family in families {
            let local = [family, "route", route, "local", "default", "dev", "lo", "table", ROUTES];
            ip(&self.netns, &local).await?;
            let marked = [
                family, "rule", rule, "fwmark", &mark, "lookup", ROUTES, "priority", PRIORITY,
            ];
            ip(&self.netns, &marked).await?;
        }
        Ok(())
    }
}

impl Place {
    fn label(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Sandbox(_, uid) => format!("the network namespace of pod {uid}").into(),
        }
    }
}

/// `32768\t60999`
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (low <= high).then_some(low..=high)
}

/// Names and packets from nft's JSON.
fn counters(json: &str) -> Option<BTreeMap<String, u64>> {
    let told: serde_json::Value = serde_json::from_str(json).ok()?;
    let objects = told.get("nftables")?.as_array()?.iter();
    let counters = objects.filter_map(|object| object.get("counter"));
    counters
        .map(|counter| {
            Some((
                counter.get("name")?.as_str()?.to_owned(),
                counter.get("packets")?.as_u64()?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_namespaces_of_others_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let open = |uid: &str| PodNamespace::open(path, &uid.into()).unwrap_err();
        fs::write(path.join("file"), "").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", path.join("own")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/uts", path.join("uts")).unwrap();
        assert!(matches!(open("absent"), NamespaceError::Absent(_)));
        assert!(matches!(open("file"), NamespaceError::NotANamespace(_)));
        assert!(matches!(open("fifo"), NamespaceError::NotANamespace(_)));
        assert!(matches!(open("own"), NamespaceError::OurOwn(_)));
        assert!(matches!(open("uts"), NamespaceError::NotANamespace(_)));
        for uid in ["", "..", "../own", "a\0b"] {
            assert!(matches!(open(uid), NamespaceError::BadUid(_)), "{uid:?}");
        }
    }

    #[test]
    fn port_ranges_and_counters_are_read_and_nonsense_is_not() {
        assert_eq!(port_range("32768\t60999\n"), Some(32768..=60999));
        for nonsense in ["", "1", "9 1", "a b", "1 70000"] {
            assert_eq!(port_range(nonsense), None, "{nonsense}");
        }
        let told =
            r#"{"nftables": [{"metainfo": {}}, {"counter": {"name": "old_inbound", "packets": 3, "bytes": 9}}]}"#;
        assert_eq!(counters(told), Some(BTreeMap::from([("old_inbound".to_owned(), 3)])));
        for nonsense in ["", "{}", r#"{"nftables": [{"counter": {}}]}"#] {
            assert_eq!(counters(nonsense), None, "{nonsense}");
        }
    }
}
