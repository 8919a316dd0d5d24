use decide::model::{ExternalService, MeshSettings, Resolution, Visibility};

use super::{
    super::{
        Cut, Direction, Live, rejudge,
        tests::{MANY, deny_everything, pod, settled},
    },
    *,
};

fn key(name: &str) -> ServiceKey {
    ServiceKey {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn external(name: &str, policies: PolicySet) -> ExternalService {
    ExternalService {
        key: key(name),
        hosts: vec![format!("{name}.example").into()],
        networks: Vec::new(),
        ports: Vec::new(),
        resolution: Resolution::None,
        endpoints: Arc::default(),
        visibility: Visibility::Namespace,
        waypoint: None,
        policies: Arc::new(policies),
        broken: None,
    }
}

fn asked(name: &str) -> Asked {
    (key(name), SocketAddr::from(([192, 0, 2, 1], 443)))
}

/// A pod that connects outside, and what is configured.
struct Outbound {
    live: Live,
    reader: Reader,
    publish: Box<dyn Fn(Snapshot)>,
    snapshot: Snapshot,
}

impl Outbound {
    fn new(services: &[&str]) -> Self {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        snapshot.complete = true;
        snapshot.put_workload(Arc::new(pod(&Arc::default())));
        for name in services {
            snapshot.external.put(Arc::new(external(name, PolicySet::default())));
        }
        let (publisher, reader) = Reader::new(snapshot.clone());
        let live = Live::default();
        tokio::task::spawn_local(rejudge(reader.clone(), "server".into(), live.clone()));
        Self {
            live,
            reader,
            publish: Box::new(move |snapshot| publisher.publish(snapshot)),
            snapshot,
        }
    }

    /// Judged: `None` what allowed it, else why not.
    fn connect(&self, judging: Vec<Asked>) -> (Tracked, Result<Judged, Refusal>) {
        let client = SocketAddr::from(([10, 1, 0, 2], 40_000));
        let mut tracked = self.live.track(Direction::Outbound, client, judging[0].1, None);
        let own = self.reader.load().workload("server").cloned().expect("a pod");
        tracked.departs(&own);
        let judged = tracked.judge_outside(&self.reader, &own, judging.into());
        (tracked, judged)
    }

    fn many(&self, number: u16, name: &str) -> Vec<Tracked> {
        let connect = |_| {
            let (tracked, judged) = self.connect(vec![asked(name)]);
            assert_eq!(judged, Ok(Judged::default()));
            tracked
        };
        (0..number).map(connect).collect()
    }

    fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshot.version += 1;
        change(&mut self.snapshot);
        (self.publish)(self.snapshot.clone());
    }

    fn put(&mut self, name: &str, policies: PolicySet) {
        self.change(|snapshot| snapshot.external.put(Arc::new(external(name, policies))));
    }

    fn looked_at(&self) -> u64 {
        self.live.registry.looked_at.load(Relaxed)
    }

    /// As [`settled`].
    async fn settle(&self) -> u64 {
        settled(|| self.looked_at()).await
    }
}

fn why(tracked: &Tracked) -> Option<Refusal> {
    match &*lock(&tracked.entry.cut) {
        Cut::Because(refusal) => Some((**refusal).clone()),
        Cut::NotYet(_) => None,
    }
}

fn denied() -> Option<Refusal> {
    let set = deny_everything();
    let object = set.policies[0].policy.object.clone();
    let field = "spec.rules[0]".into();
    Some(Refusal::Denied(Decider { object, field }))
}

async fn local(all: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn what_goes_outside_is_cut_when_a_change_denies_it_and_what_goes_elsewhere_lives_on() {
    local(async {
        let mut pod = Outbound::new(&["api", "db"]);
        let (api, db) = (pod.many(3, "api"), pod.many(3, "db"));
        let (both, judged) = pod.connect(vec![asked("db"), asked("api")]);
        assert_eq!(judged, Ok(Judged::default()));
        pod.put("api", PolicySet::default());
        pod.settle().await;
        assert!(
            api.iter().all(|it| why(it).is_none()),
            "another set that denies nothing"
        );
        pod.put("api", deny_everything());
        pod.settle().await;
        assert!(api.iter().chain([&both]).all(|it| why(it) == denied()));
        assert!(db.iter().all(|it| why(it).is_none()));
        drop((api, both));
        let all = pod.live.registry.outside.lock();
        assert_eq!(all.keys().cloned().collect::<Vec<_>>(), [key("db")], "nothing is left");
    })
    .await;
}

#[tokio::test]
async fn an_external_service_that_is_made_anew_judges_what_went_to_it_before() {
    local(async {
        let mut pod = Outbound::new(&["api"]);
        let api = pod.many(1, "api");
        pod.change(|snapshot| assert!(snapshot.external.remove(&key("api"))));
        pod.settle().await;
        assert_eq!(why(&api[0]), None, "nothing judges it");
        pod.put("api", deny_everything());
        pod.settle().await;
        assert_eq!(why(&api[0]), denied());
    })
    .await;
}

#[tokio::test]
async fn a_change_that_leaves_an_external_service_alone_costs_its_connections_nothing() {
    local(async {
        let mut outbound = Outbound::new(&["api", "db"]);
        let api = outbound.many(MANY, "api");
        // The first change is looked at: what happened before we listened is not known.
        outbound.put("db", PolicySet::default());
        outbound.settle().await;
        let before = outbound.looked_at();
        for change in 0..200_u32 {
            outbound.put("db", PolicySet::default());
            outbound.settle().await;
            outbound.change(|snapshot| {
                let before = snapshot.workload("server").cloned().expect("a pod");
                let owner = format!("owner-{change}").into();
                snapshot.put_workload(Arc::new(Workload {
                    owner,
                    ..(*before).clone()
                }));
            });
            // Another object that is judged as before.
            let same = outbound.snapshot.external.get(&key("api")).cloned().expect("there");
            outbound.change(|snapshot| {
                snapshot.external.put(Arc::new(ExternalService {
                    hosts: vec![format!("host-{change}.example").into()],
                    ..(*same).clone()
                }));
            });
            outbound.settle().await;
        }
        assert_eq!(outbound.looked_at(), before);
        outbound.put("api", deny_everything());
        let most = outbound.settle().await;
        assert!(most <= SLICE as u64, "{most} without a turn for others");
        assert!(api.iter().all(|it| why(it) == denied()));
    })
    .await;
}

#[tokio::test]
async fn a_connection_outside_is_judged_by_what_holds_when_it_is_there() {
    local(async {
        let mut pod = Outbound::new(&["api"]);
        // Its way was chosen by a snapshot before this one.
        pod.put("api", deny_everything());
        let (tracked, judged) = pod.connect(vec![asked("api")]);
        assert_eq!(judged.err(), denied());
        drop(tracked);
        let mut on_trial = deny_everything();
        Arc::make_mut(&mut on_trial.policies[0].policy).dry_run = true;
        pod.put("api", on_trial);
        let (_, judged) = pod.connect(vec![asked("api")]);
        let would_deny = judged.expect("it is but a trial").would_deny;
        assert_eq!(would_deny.map(Refusal::Denied), denied());
    })
    .await;
}
