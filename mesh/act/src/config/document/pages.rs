//! A file's text, cut where documents begin: what of it has not changed need not be read again.

use super::{Document, Unreadable, at_most_documents, collect, line_after, text, tree};

/// Whole documents of a file, as they stand there: one as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// Word for word.
    pub text: &'a str,
    /// The line of the file it begins at, from 1.
    pub line: u32,
}

/// Cuts a file before every marker of a document: `---` at the beginning of a line, which stands nowhere inside one
/// (YAML 1.2.2, 9.1.2). A file with directives, which belong to what follows the marker, or with lines that do not end
/// in a line feed, is one page.
///
/// # Errors
/// When it is no text, too large, or more pages than a file may have documents.
pub fn pages(bytes: &[u8]) -> Result<Vec<Page<'_>>, Unreadable> {
    let whole = text(bytes)?;
    let mut pages = Vec::new();
    if whole.contains('\r') || whole.starts_with('%') || whole.contains("\n%") {
        pages.push(Page { text: whole, line: 1 });
        return Ok(pages);
    }
    let (mut rest, mut line) = (whole, 1);
    while let Some(at) = next_marker(rest) {
        let (page, after) = rest.split_at(at);
        pages.push(Page { text: page, line });
        line += line_after(page.as_bytes()) - 1;
        at_most_documents(pages.len(), line)?;
        rest = after;
    }
    pages.push(Page { text: rest, line });
    Ok(pages)
}

impl Page<'_> {
    /// Its documents.
    ///
    /// # Errors
    /// The first thing in it that cannot be read, with the line of the file.
    pub fn read(&self) -> Result<Vec<Document>, Unreadable> {
        let mut documents = Vec::new();
        for root in tree::read(self.text, self.line)? {
            collect(&root, None, &mut documents)?;
        }
        Ok(documents)
    }
}

/// Where the next document is marked, but for a marker that the text begins with.
fn next_marker(text: &str) -> Option<usize> {
    let marks = |at: &usize| {
        let after = text.get(at + 3..).unwrap_or_default();
        after.is_empty() || after.starts_with([' ', '\t', '\n'])
    };
    text.match_indices("\n---").map(|(at, _)| at + 1).find(marks)
}
