//! Lines of an object's fields.

use std::{collections::BTreeMap, fmt::Write as _};

/// Lines by path (`spec.rules[0]`): kept for every object of a file, and hardly ever asked. So they are one text, a path
/// and its line in each line of it, and what stands where the field around it stands is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldLines(Box<str>);

impl FieldLines {
    /// Where a field stands: its own line, else that of the nearest field around it that has one.
    pub fn around(&self, path: &str) -> Option<u32> {
        std::iter::successors(Some(path), |path| enclosing(path)).find_map(|path| self.of(path))
    }

    fn of(&self, path: &str) -> Option<u32> {
        let mut kept = self.0.lines().filter_map(|kept| kept.rsplit_once(' '));
        let (_, line) = kept.find(|(known, _)| *known == path)?;
        line.parse().ok()
    }
}

impl FromIterator<(String, u32)> for FieldLines {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(lines: I) -> Self {
        // A key may hold anything; one that breaks the line would pass for another field.
        let told = lines.into_iter().filter(|(path, _)| !path.contains(['\n', '\r']));
        let all: BTreeMap<String, u32> = told.collect();
        let mut text = String::new();
        for (path, line) in &all {
            let around = std::iter::successors(enclosing(path), |path| enclosing(path)).find_map(|path| all.get(path));
            if around != Some(line) {
                let _ = writeln!(text, "{path} {line}");
            }
        }
        Self(text.into())
    }
}

/// The field around a field.
fn enclosing(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).and_then(|end| path.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: &[(&str, u32)]) -> FieldLines {
        of.iter().map(|(path, line)| ((*path).to_owned(), *line)).collect()
    }

    #[test]
    fn a_field_stands_on_its_line_or_on_that_of_the_nearest_field_around_it() {
        let lines = lines(&[
            ("spec", 3),
            ("spec.rules", 4),
            ("spec.rules[0]", 4),
            ("spec.rules[0].from", 4),
            ("spec.rules[0].to", 6),
            ("spec.rules[1]", 8),
            ("metadata.labels[weft.dev/use waypoint]", 2),
        ]);
        for (path, line) in [
            ("spec.rules[0].from", Some(4)),
            ("spec.rules[0].to[2].ports", Some(6)),
            ("spec.rules[1].from", Some(8)),
            ("spec.selector", Some(3)),
            ("metadata.labels[weft.dev/use waypoint]", Some(2)),
            ("metadata.labels", None),
            ("status", None),
        ] {
            assert_eq!(lines.around(path), line, "{path}");
        }
        assert_eq!(
            lines.0.lines().count(),
            5,
            "what stands where the field around it stands is told once"
        );
    }

    #[test]
    fn a_key_that_breaks_the_line_is_no_other_field() {
        let lines = lines(&[
            ("spec", 3),
            ("metadata.labels[a\nspec 9\nb]", 2),
            ("metadata.labels[\r]", 1),
        ]);
        assert_eq!(lines.around("spec"), Some(3));
        assert_eq!(lines.0.lines().count(), 1);
    }
}
