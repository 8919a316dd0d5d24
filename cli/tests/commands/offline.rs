//! Answers from a directory; nothing runs.

use std::process::Command;

use super::{golden, weft};

/// Asks about the directory `shop`.
fn shop(words: &str) -> super::Ran {
    let words: Vec<_> = ["--config", "shop"].into_iter().chain(words.split(' ')).collect();
    weft(&words)
}

#[test]
fn lists_are_aligned_tables() {
    golden("workloads.txt", &shop("workloads"));
    golden("workloads-plain.txt", &shop("workloads -n plain"));
    golden("services.txt", &shop("services"));
    golden("policies.txt", &shop("policies"));
}

#[test]
fn an_empty_list_is_a_sentence() {
    let ran = shop("services -n plain");
    assert_eq!((ran.exit, &*ran.out), (0, "no Service\n"));
}

#[test]
fn lists_are_json_and_yaml_too() {
    let json: serde_json::Value = serde_json::from_str(&shop("services -o json").out).expect("JSON");
    assert_eq!(json[0]["key"]["name"], "orders");
    let yaml: serde_json::Value = serde_yaml::from_str(&shop("services -o yaml").out).expect("YAML");
    assert_eq!(json, yaml);
}

#[test]
fn why_tells_who_decides_and_exits_by_the_answer() {
    golden("why-l4-allowed.txt", &shop("why shop/client orders.shop:9000"));
    golden("why-l4-denied.txt", &shop("why shop/guest orders.shop:9000"));
    golden("why-l7-allowed.txt", &shop("why shop/client web.shop:80 GET /"));
    golden("why-l7-denied.txt", &shop("why shop/client web.shop:80 POST /"));
    golden(
        "why-around-the-waypoint.txt",
        &shop("why shop/client shop/web-1:8080 POST /"),
    );
    golden("why-depends.txt", &shop("why shop/client web.shop:80"));
    golden("why-strict.txt", &shop("why plain/outsider orders.shop:9000"));
    golden("why-outsider.txt", &shop("why plain/outsider web.shop:80"));
    golden("why-outside.txt", &shop("why shop/client 192.0.2.1:443"));
    golden("why-unknown-address.txt", &shop("why shop/client 10.1.77.7:80"));
}

#[test]
fn what_cannot_be_answered_is_one_sentence_and_exit_1() {
    golden("error-no-such-pod.txt", &shop("why shop/clinet web.shop:80"));
    golden("error-no-such-service.txt", &shop("why shop/client wbe.shop:80"));
    golden("error-certs-of-a-directory.txt", &shop("certs"));
    for words in [
        &["--config", "absent", "workloads"][..],
        &["check", "absent"],
        &["--run", "absent", "status"],
        &["--admin", "127.0.0.1:1", "status", "--unknown"],
        &["why", "shop/client"],
    ] {
        let ran = weft(words);
        assert_eq!(ran.exit, 1, "{words:?}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{words:?}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn check_names_file_line_object_field_and_remedy() {
    golden("check.txt", &weft(&["check", "broken"]));
    golden("check-clean.txt", &weft(&["check", "shop"]));
    let json: serde_json::Value = serde_json::from_str(&weft(&["check", "broken", "-o", "json"]).out).expect("JSON");
    assert_eq!(json[0]["place"]["file"], "broken/policies.yaml");
}

#[test]
fn check_reports_every_kind_of_mistake() {
    let told = weft(&["check", "broken"]).out;
    for name in ["misspelt", "malformed", "no-waypoint", "nobody", "absent"] {
        let object = format!("AuthorizationPolicy shop/{name}");
        assert!(
            told.lines().any(|line| line.contains(&object)),
            "nothing about {name}:\n{told}"
        );
    }
}

#[test]
fn help_and_completions_go_to_standard_output() {
    for words in [
        &["--help"][..],
        &["help", "why"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["--version"],
    ] {
        let ran = weft(words);
        assert_eq!((ran.exit, &*ran.err), (0, ""), "{words:?}");
        assert!(ran.out.contains("weft"), "{words:?}");
    }
    assert!(weft(&["why", "--help"]).out.contains("Examples:"));
}

#[test]
fn what_a_shell_asks_for_in_the_middle_of_a_line_is_offered_or_nothing_is_said() {
    let asked = |line: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_weft"))
            .env_clear()
            .envs([("COMPLETE", "fish"), ("KUBECONFIG", "/nonexistent")])
            .arg("--")
            .args(line)
            .output()
            .expect("weft runs");
        assert!(ran.status.success() && ran.stderr.is_empty(), "{line:?}: {ran:?}");
        String::from_utf8(ran.stdout).expect("UTF-8")
    };
    let commands = asked(&["weft", "stat"]);
    assert!(commands.starts_with("status"), "{commands}");
    assert_eq!(asked(&["weft", "why", "shop/"]), "", "there is no cluster to ask");
}

#[test]
fn demo_becomes_the_binary_beside_it_or_says_how_to_build_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("weft");
    shell(&format!("cp {} {}", env!("CARGO_BIN_EXE_weft"), own.display()));
    let demo = || {
        Command::new(&own)
            .args(["demo", "--check", "-x"])
            .output()
            .expect("weft runs")
    };
    let alone = demo();
    let sentence = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(1));
    assert!(
        sentence.contains("weft-demo cannot be run") && sentence.lines().count() == 1,
        "{sentence}"
    );
    let beside = folder.path().join("weft-demo");
    let script = "#!/bin/sh\necho \"$@\"\nexit 7";
    shell(&format!("echo '{script}' > {0}; chmod +x {0}", beside.display()));
    let told = demo();
    assert_eq!((told.status.code(), &*told.stdout), (Some(7), &b"--check -x\n"[..]));
}

/// Programs are written by a process of their own: a file that we have open for writing is open in whatever other
/// tests start meanwhile, and the kernel runs no such file.
fn shell(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().expect("sh runs");
    assert!(status.success(), "{script}");
}
