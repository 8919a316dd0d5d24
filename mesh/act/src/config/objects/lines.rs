//! Lines of an object's fields.

/// Lines by path (`spec.rules[0]`), in order: kept for every object of a file, and hardly ever asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldLines(Box<[(Box<str>, u32)]>);

impl FieldLines {
    /// The line of a path, if it has one.
    pub fn of(&self, path: &str) -> Option<u32> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(path)).ok()?;
        self.0.get(at).map(|(_, line)| *line)
    }
}

impl FromIterator<(String, u32)> for FieldLines {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(lines: I) -> Self {
        let mut all: Vec<(Box<str>, u32)> = lines.into_iter().map(|(path, line)| (path.into(), line)).collect();
        all.sort_unstable();
        Self(all.into())
    }
}
