//! One file as last read, page by page: a new version costs what has changed in it.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use decide::model::Problem;

use super::listing::Stamp;
use crate::config::{
    admission::{self, Admission},
    background::give_way,
    document::{self, Page, Unreadable},
};

/// One file.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Of the version its objects are from, if that can tell it from a later one.
    pub(super) stamp: Option<Stamp>,
    /// What its last readable version holds.
    pub(super) text: Text,
    /// Whether there has been a readable version.
    pub(super) was_readable: bool,
    pub(super) trouble: Option<Problem>,
}

/// What a version of a file holds.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// In order.
    pub(super) objects: Arc<[Arc<Admission>]>,
    pages: Box<[Kept]>,
}

/// A page that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    /// Half of its SHA-256: enough that nobody finds another text of it.
    digest: [u8; 16],
    line: u32,
    documents: u32,
    /// Those of its documents that concern the mesh.
    objects: u32,
}

impl Text {
    /// Reads a new version. A page that stands where it stood, word for word, is not read again.
    ///
    /// # Errors
    /// The first thing that cannot be read.
    pub(super) fn turn(&self, bytes: &[u8], file: &Arc<str>) -> Result<Self, Unreadable> {
        let (mut pages, mut objects) = (Vec::new(), Vec::new());
        let mut documents = 0;
        let mut known = self.known().peekable();
        for page in document::pages(bytes)? {
            give_way();
            let digest = half_digest(page.text);
            while known.next_if(|(kept, _)| kept.line < page.line).is_some() {}
            let same = known.next_if(|(kept, _)| kept.line == page.line && kept.digest == digest);
            let kept = match same {
                Some((kept, before)) => {
                    objects.extend_from_slice(before);
                    *kept
                }
                None => read(page, digest, file, &mut objects)?,
            };
            documents += kept.documents as usize;
            document::at_most_documents(documents, page.line)?;
            pages.push(kept);
        }
        Ok(Self {
            objects: objects.into(),
            pages: pages.into(),
        })
    }

    /// Every page with its objects.
    fn known(&self) -> impl Iterator<Item = (&Kept, &[Arc<Admission>])> {
        let mut rest = &*self.objects;
        self.pages.iter().map(move |kept| {
            let (page, after) = rest.split_at_checked(kept.objects as usize).unwrap_or_default();
            rest = after;
            (kept, page)
        })
    }
}

/// Reads a page, and adds its objects.
fn read(
    page: Page<'_>,
    digest: [u8; 16],
    file: &Arc<str>,
    objects: &mut Vec<Arc<Admission>>,
) -> Result<Kept, Unreadable> {
    let (documents, before) = (page.read()?, objects.len());
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let all = count(documents.len());
    let admitted = documents.into_iter().filter_map(|it| admission::admit(it, file));
    objects.extend(admitted.map(Arc::new));
    Ok(Kept {
        digest,
        line: page.line,
        documents: all,
        objects: count(objects.len() - before),
    })
}

fn half_digest(text: &str) -> [u8; 16] {
    let mut half = [0; 16];
    let whole = digest(&SHA256, text.as_bytes());
    half.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, label: &str) -> String {
        format!("---\nkind: Namespace\napiVersion: v1\nmetadata: {{name: {name}, labels: {{v: \"{label}\"}}}}\n")
    }

    #[test]
    fn what_stands_where_it_stood_is_not_read_again() {
        let file: Arc<str> = "a.yaml".into();
        let all = |labels: [&str; 3]| {
            let names = ["a", "b", "c"].into_iter().zip(labels);
            let text: String = names.map(|(name, label)| object(name, label)).collect();
            text + "---\nkind: Unconcerned\nmetadata: {name: x}\n" + &object("last", "1")
        };
        let first = Text::default().turn(all(["1", "1", "1"]).as_bytes(), &file).unwrap();
        let second = first.turn(all(["1", "2", "1"]).as_bytes(), &file).unwrap();
        let again: Vec<bool> = first
            .objects
            .iter()
            .zip(&*second.objects)
            .map(|(a, b)| Arc::ptr_eq(a, b))
            .collect();
        assert_eq!(again, [true, false, true, true]);
        let whole = Text::default().turn(all(["1", "2", "1"]).as_bytes(), &file).unwrap();
        assert_eq!((&second.objects, &second.pages), (&whole.objects, &whole.pages));
        // What has moved has other lines.
        let moved = first
            .turn(("# a line\n".to_owned() + &all(["1", "1", "1"])).as_bytes(), &file)
            .unwrap();
        let line = |text: &Text| text.objects.first().unwrap().place.line;
        assert_eq!((line(&first), line(&moved)), (2, 3));
    }

    #[test]
    fn pages_that_are_known_count_among_the_documents_of_a_file() {
        let file: Arc<str> = "a.yaml".into();
        let most = "--- {kind: X}\n".repeat(document::MAX_DOCUMENTS - 1);
        let text = Text::default().turn(most.as_bytes(), &file).unwrap();
        let two = "--- {kind: List, items: [{kind: X}, {kind: X}]}\n";
        assert!(text.turn((most.clone() + "--- {kind: X}\n").as_bytes(), &file).is_ok());
        let error = text.turn((most + two).as_bytes(), &file).unwrap_err();
        assert!(error.what.contains("more than"), "{error}");
    }
}
