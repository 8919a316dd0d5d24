//! Tables for people, JSON and YAML for programs.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Aligned columns under a header line.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|it| (*it).to_owned()).collect()],
        }
    }

    /// Adds a row. What a peer or a file named is shown without control characters.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let plain = |cell: String| cell.chars().filter(|c| !c.is_control()).collect::<String>();
        self.rows.push(
            cells
                .into_iter()
                .map(plain)
                .map(|cell| if cell.is_empty() { "-".into() } else { cell })
                .collect(),
        );
    }

    /// Whether it holds nothing but its header.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines, without trailing blanks.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// Prints a table, or `empty` where it has no rows.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn table(table: &Table, empty: &str) -> Result<(), String> {
    if table.is_empty() {
        text(&format!("{empty}\n"))
    } else {
        text(&(table.lines().join("\n") + "\n"))
    }
}

/// Prints a value as JSON or YAML.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn value(value: &Value, format: Format) -> Result<(), String> {
    match format {
        Format::Json => text(&format!("{value:#}\n")),
        Format::Table | Format::Yaml => text(&serde_yaml::to_string(value).map_err(|error| error.to_string())?),
    }
}

/// Prints text. A reader that went away (`| head`) is no error.
///
/// # Errors
/// When standard output fails otherwise.
pub(crate) fn text(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("the answer cannot be printed: {error}"))
        }
        _ => Ok(()),
    }
}

/// What a command comes to: its exit code, or one sentence.
pub(crate) type Answer = Result<ExitCode, String>;

/// Prints a table unless another format was printed already.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn finish(table: &Table, empty: &str, format: Format) -> Answer {
    if format == Format::Table {
        self::table(table, empty)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a value, and that is the answer.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn print(value: &Value, format: Format) -> Answer {
    self::value(value, format)?;
    Ok(ExitCode::SUCCESS)
}

/// A text; empty where it is none.
pub(crate) fn said(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Texts, with commas between.
pub(crate) fn list(value: &Value) -> String {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(said)
        .collect::<Vec<_>>()
        .join(",")
}

/// How many, of a list or of a number that says it already.
pub(crate) fn count(value: &Value) -> String {
    let told = value.as_array().map(Vec::len);
    told.map_or_else(|| value.as_u64().unwrap_or_default().to_string(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", "NODE"]);
        table.row(["a-long-name".into(), String::new()]);
        table.row(["b".into(), "node-1".into()]);
        assert_eq!(
            table.lines(),
            ["NAME         NODE", "a-long-name  -", "b            node-1"]
        );
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\u{1b}[31mb\nc".into()]);
        assert_eq!(table.lines()[1], "a[31mbc");
    }
}
