use std::time::Duration;

use decide::{
    model::{Action, AppliedPolicy, Capture, Fence, Labels, MeshSettings, ObjectRef, Phase, Policy, Rule},
    snapshot::Snapshot,
};

use super::*;

/// As many as one pod may well have.
pub(super) const MANY: u16 = 10_000;

pub(super) fn pod(policies: &Arc<PolicySet>) -> Workload {
    Workload {
        uid: "server".into(),
        name: "server".into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        identity: Identity::new("cluster.local", "shop", "server").expect("an identity"),
        addresses: vec!["10.1.0.2".parse().expect("an address")],
        labels: Labels::default(),
        owner: "server".into(),
        ports: Vec::new(),
        probed: Vec::new(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        fence: Fence::default(),
        policies: policies.clone(),
    }
}

pub(super) fn deny_everything() -> PolicySet {
    let policy = Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "shop".into(),
            name: "nobody".into(),
        },
        action: Action::Deny,
        rules: vec![Rule::default()],
        dry_run: false,
        broken: None,
    };
    PolicySet {
        policies: vec![AppliedPolicy {
            policy: Arc::new(policy),
            ports: None,
        }],
        ..PolicySet::default()
    }
}

/// Many judged connections, and what is configured.
struct Crowd {
    live: Live,
    tracked: Vec<Tracked>,
    snapshot: Snapshot,
    publish: Box<dyn Fn(Snapshot)>,
}

impl Crowd {
    fn new() -> Self {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        snapshot.complete = true;
        snapshot.put_workload(Arc::new(pod(&Arc::default())));
        let (publisher, reader) = Reader::new(snapshot.clone());
        let live = Live::default();
        let tracked = (0..MANY)
            .map(|port| {
                let client = SocketAddr::from(([10, 1, 0, 1], port));
                let to = SocketAddr::from(([10, 1, 0, 2], 8080));
                let tracked = live.track(Direction::Plaintext, client, to, None);
                tracked.judge(&reader, "server").expect("nothing denies it");
                tracked
            })
            .collect();
        tokio::task::spawn_local(rejudge(reader, "server".into(), live.clone()));
        Self {
            live,
            tracked,
            snapshot,
            publish: Box::new(move |snapshot| publisher.publish(snapshot)),
        }
    }

    fn change(&mut self, workload: Workload) {
        self.snapshot.version += 1;
        self.snapshot.put_workload(Arc::new(workload));
        (self.publish)(self.snapshot.clone());
    }

    fn looked_at(&self) -> u64 {
        self.live.registry.looked_at.load(Relaxed)
    }

    fn cut(&self) -> usize {
        let cut = |tracked: &&Tracked| matches!(*lock(&tracked.entry.cut), Cut::Because(_));
        self.tracked.iter().filter(cut).count()
    }

    /// As [`settled`].
    async fn settle(&self) -> u64 {
        settled(|| self.looked_at()).await
    }
}

/// Lets everything else run, and says how many connections were looked at between two turns of this task, at most.
pub(super) async fn settled(looked_at: impl Fn() -> u64) -> u64 {
    let (mut most, mut before, mut quiet) = (0, looked_at(), 0);
    while quiet < 8 {
        tokio::task::yield_now().await;
        let now = looked_at();
        quiet = if now == before { quiet + 1 } else { 0 };
        most = most.max(now - before);
        before = now;
    }
    most
}

#[tokio::test]
async fn a_change_that_leaves_the_pods_judge_alone_costs_its_connections_nothing() {
    let all = async {
        let mut crowd = Crowd::new();
        let policies = crowd.snapshot.workload("server").expect("there").policies.clone();
        // The first change is looked at: what happened before we listened is not known.
        crowd.change(pod(&policies));
        crowd.settle().await;
        let before = crowd.looked_at();
        for change in 0..200_u32 {
            let other = Workload {
                uid: format!("other-{}", change % 7).into(),
                policies: Arc::new(deny_everything()),
                addresses: Vec::new(),
                ..pod(&policies)
            };
            crowd.change(other);
            crowd.change(Workload {
                owner: format!("owner-{change}").into(),
                ..pod(&policies)
            });
            crowd.settle().await;
        }
        assert_eq!(crowd.looked_at(), before);
        assert_eq!(crowd.cut(), 0);
    };
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn ten_thousand_connections_are_judged_again_in_slices_and_cut_when_denied() {
    let all = async {
        let mut crowd = Crowd::new();
        crowd.change(pod(&Arc::default()));
        let most = crowd.settle().await;
        assert!(most <= SLICE as u64, "{most} without a turn for others");
        assert_eq!((crowd.looked_at(), crowd.cut()), (u64::from(MANY), 0));
        crowd.change(pod(&Arc::new(deny_everything())));
        let most = crowd.settle().await;
        assert!(most <= SLICE as u64, "{most} without a turn for others");
        assert_eq!(crowd.cut(), usize::from(MANY));
    };
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn changes_that_come_while_some_are_judged_are_one() {
    let all = async {
        let mut crowd = Crowd::new();
        for _ in 0..200 {
            crowd.change(pod(&Arc::default()));
            tokio::task::yield_now().await;
        }
        crowd.change(pod(&Arc::new(deny_everything())));
        crowd.settle().await;
        assert_eq!(crowd.cut(), usize::from(MANY));
        let passes = crowd.looked_at() / u64::from(MANY);
        assert!(passes < 50, "{passes} passes for 201 changes");
    };
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test(start_paused = true)]
async fn at_two_hundred_changes_a_second_ten_thousand_connections_keep_nobody_waiting() {
    const BEAT: Duration = Duration::from_millis(5);
    let all = async {
        let mut crowd = Crowd::new();
        let mut beats = tokio::time::interval(BEAT);
        let mut most = 0;
        let mut behind = 0;
        for change in 1..=200_u64 {
            beats.tick().await;
            // Another judge each time, who denies nothing: every connection must be looked at.
            crowd.change(pod(&Arc::default()));
            most = most.max(crowd.settle().await);
            behind = behind.max((change * u64::from(MANY)).saturating_sub(crowd.looked_at()));
        }
        assert!(most <= SLICE as u64, "{most} without a turn for others");
        assert_eq!((behind, crowd.cut()), (0, 0), "each beat was done before the next");
        crowd.change(pod(&Arc::new(deny_everything())));
        crowd.settle().await;
        assert_eq!(crowd.cut(), usize::from(MANY), "the last counts for all");
    };
    tokio::task::LocalSet::new().run_until(all).await;
}
