//! The whole run: cases in rounds, the subjects of a case one after the other, then the table.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use act::process::Failure;

use super::{
    BenchOptions, Case, Figures, Metric, Subject, ground::Ground, measure::Turn, objects, picture, rest, sheet,
};
use crate::show::Screen;

/// Cases that take their time and are run once: rest before anything else, a burst and restarted proxies at the end.
const ONCE: [Case; 3] = [Case::Idle, Case::Burst, Case::Handshakes];
/// What `results.json` holds; the rest is in `details.json` alone.
const UNLISTED_METRICS: [Metric; 5] = [
    Metric::SlowestStream,
    Metric::Held,
    Metric::RssAfter,
    Metric::Worst,
    Metric::P99Alone,
];
const UNLISTED_CASES: [Case; 2] = [Case::FixedRate, Case::Burst];

/// Measures, prints and writes. Answers the exit code: 0 when everything could be measured, whatever the figures are.
///
/// # Errors
/// When the world or a subject does not start, or a file cannot be written.
pub async fn run(options: BenchOptions, screen: Screen) -> Result<u8, Failure> {
    everything_is_there(&options)?;
    let started = tokio::time::Instant::now();
    let ground = Ground::lay(options, screen).await?;
    let mut figures = Figures::default();
    let mut troubles = Vec::new();
    let rounds = ground.options.rounds;
    for round in 0..rounds {
        for case in ground.options.cases() {
            let turn = match case {
                Case::Idle => round == 0,
                Case::Burst => round + 1 == rounds,
                Case::Handshakes => false,
                _ => true,
            };
            if turn {
                one(&ground, case, round, &mut figures, &mut troubles).await;
            }
        }
    }
    let congestion = congestion(&ground).await;
    troubles.extend(rest::after(&ground, &mut figures).await.err().map(|it| it.0));
    if ground.options.cases().contains(&Case::Handshakes) {
        troubles.extend(ground.tunnel_per_connection(true).await.err().map(|it| it.0));
        one(&ground, Case::Handshakes, 0, &mut figures, &mut troubles).await;
    }
    let head = head(&ground, &congestion);
    write(&ground, &figures, &head)?;
    screen.print(&format!(
        "\n{head}\n\n{}\n",
        sheet::figures(&figures).render(screen.width())
    ));
    screen.print(&sheet::targets(&figures).render(screen.width()));
    for trouble in &troubles {
        screen.print(&format!("not measured: {trouble}\n"));
    }
    screen.print(&format!(
        "in {} s; results.json, details.json and results.svg are in {}\n",
        started.elapsed().as_secs(),
        ground.options.out.display()
    ));
    Ok(u8::from(!troubles.is_empty()))
}

/// Every subject's turn at a case. Who begins changes from round to round.
async fn one(ground: &Ground, case: Case, round: u32, figures: &mut Figures, troubles: &mut Vec<String>) {
    let mut subjects = ground.options.subjects();
    let first = round as usize % subjects.len().max(1);
    subjects.rotate_left(first);
    for subject in subjects {
        let name = format!("{} {}", case.name(), subject.name());
        let rounds = if ONCE.contains(&case) {
            String::new()
        } else {
            format!(", round {}", round + 1)
        };
        ground.screen.progress(&format!("{name}{rounds}"));
        let mut turn = Turn {
            ground,
            case,
            subject,
            figures,
        };
        if let Err(failure) = turn.take().await {
            ground.screen.progress(&failure.0);
            troubles.push(format!("{name}: {failure}"));
        }
    }
}

/// Which congestion control the sockets of every pod were seen to use, while each had a stream.
async fn congestion(ground: &Ground) -> String {
    let mut seen = BTreeSet::new();
    for subject in ground.options.subjects() {
        let service = subject.service();
        let client = subject.pod("client");
        let words = ["iperf3", "-c", &service, "-C", "cubic", "-t", "1"];
        let look = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut found = BTreeSet::new();
            for pod in [&client, &subject.pod("server")] {
                let words = ["ss", "-tinH", "state", "established"];
                let text = ground
                    .run(pod, &words, Duration::from_secs(5))
                    .await
                    .unwrap_or_default();
                found.extend(
                    text.split_whitespace()
                        .filter(|word| ["cubic", "bbr", "reno"].contains(word))
                        .map(ToOwned::to_owned),
                );
            }
            found
        };
        let (_, found) = tokio::join!(ground.run(&client, &words, Duration::from_secs(20)), look);
        let found: Vec<_> = found.into_iter().collect();
        seen.insert(format!("{}: {}", subject.name(), found.join(" and ")));
    }
    seen.into_iter().collect::<Vec<_>>().join(", ")
}

fn head(ground: &Ground, congestion: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let BenchOptions { seconds, rounds, .. } = ground.options;
    format!(
        "{cores} cores, shared by load, servers and proxies; 2 threads for every proxy; {seconds} s a figure, the \
         median of {rounds} rounds.\nCongestion control seen in the pods ({congestion}).\nThe mesh knows {} pods and \
         {} services beside these.",
        objects::FAR_PODS,
        objects::FAR_SERVICES
    )
}

fn write(ground: &Ground, figures: &Figures, head: &str) -> Result<(), Failure> {
    let out = &ground.options.out;
    fs::create_dir_all(out).map_err(|error| Failure(format!("{}: {error}", out.display())))?;
    let put = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
    };
    let listed = figures.without(&UNLISTED_CASES, &UNLISTED_METRICS);
    for (name, told) in [("results.json", listed.told()), ("details.json", figures.told())] {
        let text = serde_json::to_string_pretty(&told).map_err(|error| Failure(error.to_string()))?;
        put(name, text + "\n")?;
    }
    let first = head.lines().next().unwrap_or_default();
    let title = format!(
        "Rates over HAProxy's (= 1), longer is better; {}",
        first.split(',').next().unwrap_or_default()
    );
    put("results.svg", picture::draw(figures, &title))
}

/// Says in one sentence what is missing, if anything is.
///
/// # Errors
/// That sentence.
fn everything_is_there(options: &BenchOptions) -> Result<(), Failure> {
    let mut missing: Vec<String> = ["iperf3", "wrk", "nginx", "haproxy", "ss"]
        .into_iter()
        .filter(|program| !crate::isolate::found(program))
        .map(ToOwned::to_owned)
        .collect();
    if options.subjects().contains(&Subject::Envoy) && !options.envoy.exists() {
        missing.push(options.envoy.display().to_string());
    }
    let ours = ["ztunnel", "weft-cni", "ca"].map(|name| options.bin.join(name));
    missing.extend(
        ours.iter()
            .filter(|it| !Path::new(it).exists())
            .map(|it| it.display().to_string()),
    );
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "missing: {}; `make bench` installs and builds them",
        missing.join(", ")
    )))
}
