//! What was asserted, and what was seen.

use act::process::Failure;

/// One assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which point it belongs to.
    pub point: u8,
    /// What is promised.
    pub law: String,
    /// What must be seen.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Whether it holds.
    pub pass: bool,
}

/// The assertions of one point, as they are made.
#[derive(Debug)]
pub struct Point {
    number: u8,
    rows: Vec<Row>,
}

impl Point {
    /// No assertions yet.
    pub fn new(number: u8) -> Self {
        Self {
            number,
            rows: Vec::new(),
        }
    }

    /// Which point it is.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Asserts anything.
    pub fn assert(&mut self, law: &str, expected: impl ToString, seen: impl ToString, pass: bool) {
        self.rows.push(Row {
            point: self.number,
            law: law.to_owned(),
            expected: expected.to_string(),
            seen: seen.to_string(),
            pass,
        });
    }

    /// Asserts that what was seen is what was expected.
    pub fn equal<T: ToString>(&mut self, law: &str, expected: T, seen: T) {
        let (expected, seen) = (expected.to_string(), seen.to_string());
        let pass = expected == seen;
        self.assert(law, expected, seen, pass);
    }

    /// Asserts that a text holds a part.
    pub fn holds(&mut self, law: &str, part: &str, text: &str) {
        let shown: String = text.trim().chars().take(200).collect();
        self.assert(law, format!("… {part} …"), shown, text.contains(part));
    }

    /// A step that must succeed for the rest to mean anything: its failure is a row that fails.
    pub fn step<T>(&mut self, what: &str, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.assert(what, "done", failure, false);
                None
            }
        }
    }

    /// All of them.
    pub fn rows(self) -> Vec<Row> {
        self.rows
    }
}
