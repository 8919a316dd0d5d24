//! Writing nftables scripts, line by line. Pure.

use std::fmt::{self, Write};

/// An nftables script as it is written, indented.
#[derive(Default)]
pub(super) struct Script {
    pub(super) text: String,
    depth: usize,
}

impl Script {
    /// One line.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        let indent = self.depth * 2;
        // writing to a String does not fail
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    /// What is in braces after this head.
    pub(super) fn open(&mut self, head: fmt::Arguments<'_>) {
        self.line(format_args!("{head} {{"));
        self.depth += 1;
    }

    /// A chain; without a hook, one that others go to.
    pub(super) fn chain(&mut self, name: &str, hook: &str) {
        self.open(format_args!("chain {name}"));
        if !hook.is_empty() {
            self.line(format_args!("{hook}; policy accept;"));
        }
    }

    /// The end of what is open.
    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line(format_args!("}}"));
    }
}

/// A script is as its golden file has it.
#[cfg(test)]
pub(super) fn golden(name: &str, script: &str) {
    let path = format!("{}/src/capture/golden/{name}.nft", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("WEFT_GOLDEN").is_some() {
        std::fs::write(&path, script).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        script, expected,
        "{path}: if the change is meant, test again with WEFT_GOLDEN=1"
    );
}
