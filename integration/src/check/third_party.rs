//! Point 10: programs that nobody here wrote speak to the mesh, and those that may not are refused.

use std::{fs, path::Path, time::Duration};

use act::process::Failure;

use super::{Bench, Point, bench::OUTSIDER};

/// The pod that Envoy runs in, and its address.
const POD: &str = "shop/envoy";
/// A captured pod's HBONE port.
const SERVER: &str = "10.77.2.22:15008";

/// Envoy as client and as server, then openssl.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    envoy(bench, point).await;
    openssl(bench, point).await;
}

async fn envoy(bench: &Bench, point: &mut Point) {
    if !bench.envoy.exists() {
        let seen = format!("{} is not there; `make demo` installs it", bench.envoy.display());
        point.assert("Envoy speaks to the mesh", "Envoy's binary", seen, false);
        return;
    }
    let Some(identity) = point.step("Envoy's certificate from our CA", bench.outsider().await) else {
        return;
    };
    let file = bench.world.run_directory().join("envoy.json");
    let written = fs::write(&file, config(&identity)).map_err(|error| Failure(error.to_string()));
    point.step("Envoy's configuration", written);
    let (program, file) = (bench.envoy.display().to_string(), file.display().to_string());
    let words = [
        &*program,
        "-c",
        &*file,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ];
    let Some(mut process) = point.step("Envoy starts", bench.world.spawn_in(POD, "envoy", &words).await) else {
        return;
    };
    let ready = bench
        .until(Duration::from_secs(20), || bench.world.listens(POD, 15001))
        .await;
    point.assert("Envoy listens", "within 20 s", ready, ready);
    envoy_asks(bench, point).await;
    envoy_is_asked(bench, point).await;
    process.kill().await;
}

async fn envoy_asks(bench: &Bench, point: &mut Point) {
    let mut server = bench.log("ztunnel-node-2");
    let law = "Envoy as HBONE client into our ztunnel";
    if let Some(answer) = point.step(law, bench.curl(POD, &["http://127.0.0.1:15001/?say=envoy"]).await) {
        point.assert(
            law,
            "200 catalog envoy",
            answer.phrase(),
            answer.status == 200 && answer.text.contains("catalog envoy"),
        );
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let named = server
        .events("access")
        .iter()
        .any(|event| event.is("src.identity", OUTSIDER));
    point.assert("our access log names Envoy's identity", OUTSIDER, named, named);
}

async fn envoy_is_asked(bench: &Bench, point: &mut Point) {
    let law = "Envoy as HBONE server out of our ztunnel";
    if let Some(answer) = point.step(law, bench.curl("shop/client-a", &["http://envoy/"]).await) {
        point.assert(law, "200", answer.phrase(), answer.status == 200);
    }
    let mut log = crate::observe::Log::new(bench.world.run_directory().log("envoy"));
    let mut told = Vec::new();
    bench
        .until(Duration::from_secs(12), || {
            told.extend(log.lines().into_iter().filter(|line| line.starts_with("HBONE CONNECT")));
            let any = !told.is_empty();
            async move { any }
        })
        .await;
    let seen = told.first().cloned().unwrap_or_else(|| "no line".into());
    let law = "Envoy's log names our client's identity";
    let pass = seen.contains("peer=spiffe://cluster.local/ns/shop/sa/client") && seen.contains(" 200 ");
    point.assert(law, "peer=spiffe://cluster.local/ns/shop/sa/client … 200", seen, pass);
}

/// Both ends of HBONE, as Envoy is told them: port 15008 takes tunnels to the pod's own port 8080, port 15001 leads
/// what it takes through a tunnel to `catalog`.
fn config(identity: &Path) -> String {
    let file = |name: &str| identity.join(name).display().to_string();
    let certificates = format!(
        r#"[{{"certificate_chain": {{"filename": "{}"}}, "private_key": {{"filename": "{}"}}}}]"#,
        file("tls.crt"),
        file("tls.key")
    );
    include_str!("../../check/envoy.json")
        .replace("\"$CERTIFICATES\"", &certificates)
        .replace("$ROOTS", &file("ca.crt"))
        .replace("$CATALOG", "10.77.2.22")
}

/// What a TLS client brings, and whether it must be let in.
struct Caller {
    law: &'static str,
    flags: &'static str,
    identity: Option<&'static str>,
    welcome: bool,
}

const CALLERS: [Caller; 8] = [
    Caller {
        law: "a valid certificate",
        flags: "-alpn h2",
        identity: Some("outsider"),
        welcome: true,
    },
    Caller {
        law: "-groups X25519",
        flags: "-alpn h2 -groups X25519",
        identity: Some("outsider"),
        welcome: true,
    },
    Caller {
        law: "-groups P-256",
        flags: "-alpn h2 -groups P-256",
        identity: Some("outsider"),
        welcome: true,
    },
    Caller {
        law: "a wrong ALPN",
        flags: "-alpn http/1.1",
        identity: Some("outsider"),
        welcome: false,
    },
    Caller {
        law: "no ALPN",
        flags: "",
        identity: Some("outsider"),
        welcome: false,
    },
    Caller {
        law: "TLS 1.2",
        flags: "-alpn h2 -tls1_2",
        identity: Some("outsider"),
        welcome: false,
    },
    Caller {
        law: "no certificate",
        flags: "-alpn h2",
        identity: None,
        welcome: false,
    },
    Caller {
        law: "a certificate of a foreign root",
        flags: "-alpn h2",
        identity: Some("foreign"),
        welcome: false,
    },
];

async fn openssl(bench: &Bench, point: &mut Point) {
    if point
        .step("a certificate from our CA", bench.outsider().await)
        .is_none()
    {
        return;
    }
    point.step("a certificate of a foreign root", foreign(bench).await);
    for caller in &CALLERS {
        let law = format!("openssl s_client with {}", caller.law);
        let identity = caller.identity.map_or_else(String::new, |name| {
            let home = bench.world.run_directory().join(name);
            format!(
                "-cert {0}/tls.crt -key {0}/tls.key -cert_chain {0}/tls.crt",
                home.display()
            )
        });
        // The server's last word comes after the handshake, in TLS 1.3: it is waited for.
        let script = format!(
            "sleep 1 | openssl s_client -connect {SERVER} -msg {} {identity} 2>&1",
            caller.flags
        );
        let Some(finished) = point.step(&law, bench.run("plain/outsider", &["sh", "-c", &script]).await) else {
            continue;
        };
        let text = &finished.stdout;
        let refused = text.contains("alert") && !text.contains("close_notify")
            || text.contains("errno")
            || !text.contains("Cipher is TLS_");
        let line = |part: &str| text.lines().find(|line| line.contains(part));
        let seen = ["SSL alert", "alert ", "errno", "Cipher is"]
            .iter()
            .find_map(|part| line(part));
        let seen = seen.unwrap_or("nothing").trim();
        let expected = if caller.welcome { "let in" } else { "refused" };
        point.assert(&law, expected, seen, refused != caller.welcome);
        if caller.welcome {
            let ticket = text.contains("NewSessionTicket") || text.contains("New Session Ticket");
            let law = format!("{}: no NewSessionTicket is sent", caller.law);
            point.assert(&law, "none", if ticket { "a ticket" } else { "none" }, !ticket);
        }
    }
}

/// A certificate that names a workload, signed by itself.
async fn foreign(bench: &Bench) -> Result<(), Failure> {
    let home = bench.world.run_directory().join("foreign");
    fs::create_dir_all(&home).map_err(|error| Failure(error.to_string()))?;
    let script = format!(
        "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.crt \
         -days 1 -subj /O=foreign -addext subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/client",
        home.display()
    );
    let finished = bench.run("node-1", &["sh", "-c", &script]).await?;
    if finished.success() {
        Ok(())
    } else {
        Err(Failure(finished.stderr))
    }
}
