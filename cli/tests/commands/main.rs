//! The command as a person runs it: what it prints, and its exit codes.

mod offline;
mod running;

use std::{path::Path, process::Command};

/// What one run came to.
#[derive(Debug, PartialEq)]
struct Ran {
    exit: i32,
    out: String,
    err: String,
}

/// Runs `weft` with these words, in this package's `tests` folder, in a terminal-less and bare environment.
fn weft(words: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(words)
        .env_clear()
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .output()
        .expect("weft runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Ran {
        exit: output.status.code().expect("it exits"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Compares what a run printed with `golden/NAME`; `UPDATE=1` writes it instead.
fn golden(name: &str, ran: &Ran) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let found = format!("{}{}exit {}\n", ran.out, ran.err, ran.exit);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).expect("golden files are writable");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "golden/{name} differs; UPDATE=1 writes it anew");
}
