//! A table of text: columns as wide as they need, the widest cut when the page is narrower.

use std::fmt::Write as _;

/// Rows of cells under headings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: usize = 2;
/// No column is cut below this.
const LEAST: usize = 6;

impl Table {
    /// A table with these columns.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells beyond the headings are dropped, missing ones are empty; a cell is one line.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        let mut cells: Vec<_> = cells.into_iter().map(one_line).collect();
        cells.resize(self.headings.len(), String::new());
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, no line longer than `width` characters unless every column is at its least.
    pub fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for cells in std::iter::once(&self.headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let cell = cut(cell, *width);
                let _ = write!(line, "{cell:<width$}{:GAP$}", "");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let mut widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let cells = all().filter_map(|cells| cells.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        while widths
            .iter()
            .map(|width| width + GAP)
            .sum::<usize>()
            .saturating_sub(GAP)
            > width
        {
            let Some(widest) = widths
                .iter_mut()
                .max_by_key(|width| **width)
                .filter(|width| **width > LEAST)
            else {
                break;
            };
            *widest -= 1;
        }
        widths
    }
}

fn one_line(cell: &str) -> String {
    cell.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["who", "n"]);
        table.row(["shop/client-a", "1"]);
        table.row(["b", "22"]);
        assert_eq!(
            table.render(80),
            "who            n\nshop/client-a  1\nb              22\n"
        );
    }

    #[test]
    fn the_widest_column_is_cut_first() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["short", "a rather long cell\nof two lines"]);
        assert_eq!(table.render(20), "a      b\nshort  a rather lon…\n");
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_page(cells in prop::collection::vec("\\PC{0,40}", 3), width in 30..120_usize) {
            let mut table = Table::new(&["one", "two", "three"]);
            table.row(cells.iter().map(String::as_str));
            for line in table.render(width).lines() {
                prop_assert!(line.chars().count() <= width);
            }
        }
    }
}
