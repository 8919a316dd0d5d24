//! What one look at a cluster came to: of `weft check`, and of `weft install` before it applies anything.

use serde::Serialize;

use crate::output::Table;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// The mesh works, but not as well as it could, or nobody can tell.
    Warn,
    /// Something does not work, or is refused.
    Fail,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) result: Severity,
    /// What was found, and what to do about it.
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, what)
    }

    pub(crate) fn warn(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Severity::Warn, what)
    }

    pub(crate) fn fail(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Severity::Fail, what)
    }

    fn new(check: &'static str, result: Severity, what: impl Into<String>) -> Self {
        Self {
            check,
            result,
            what: what.into(),
        }
    }
}

/// Findings as rows.
pub(crate) fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["RESULT", "CHECK", "WHAT"]);
    for finding in findings {
        let result = match finding.result {
            Severity::Ok => "ok",
            Severity::Warn => "warn",
            Severity::Fail => "FAIL",
        };
        table.row([result.into(), finding.check.into(), finding.what.clone()]);
    }
    table
}

/// Up to five names, and how many more there are.
pub(crate) fn names<N: AsRef<str>>(all: impl IntoIterator<Item = N>) -> String {
    let all: Vec<N> = all.into_iter().collect();
    let first: Vec<_> = all.iter().take(5).map(AsRef::as_ref).collect();
    match all.len().saturating_sub(5) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// `1 pod`, `2 pods`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        assert_eq!(names(["a", "b"]), "a, b");
        assert_eq!(names(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
