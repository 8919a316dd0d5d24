//! An entrance for `make fuzz`, and for the test that tries again what fuzzing has kept. A panic is a finding. No
//! program calls this.

use decide::model::MeshSettings;

use super::{
    gather::Gather,
    read::read,
    scope::{Kind, Scope},
    watch::News,
    wire::{Line, Lines, Target},
};
use crate::config::{Change, Feed};

/// Most lines of one input: reading is to be tried, not its size.
const MOST_LINES: usize = 256;

/// What an API server sends of one kind: the first byte says of which, the second in pieces of how many bytes; then the
/// page of a list up to a byte of zero, if there is one, and the lines of a watch. As far as the snapshot.
pub fn watch(bytes: &[u8]) {
    let [kind, piece, rest @ ..] = bytes else { return };
    let kinds = Scope::Ztunnel.kinds();
    let index = usize::from(*kind) % kinds.len();
    let kind = &kinds[index];
    let target = Target {
        kind,
        version: kind.versions.first().copied().unwrap_or_default(),
        fields: None,
    };
    let end_of_page = rest.iter().position(|byte| *byte == 0);
    let (page, lines) = end_of_page.map_or((None, rest), |end| {
        (rest.get(..end), rest.get(end + 1..).unwrap_or(&[]))
    });
    let mut server = Server::listed(kinds, index);
    if let Some(page) = page.and_then(|page| target.page(page).ok()) {
        server.say(News::Listing);
        for object in page.objects {
            server.put(object);
        }
        server.say(News::Listed);
    }
    let pieces = lines.chunks(usize::from(*piece).max(1));
    let whole = lines_of(pieces);
    let at_once: Vec<_> = lines.split(|byte| *byte == b'\n').collect();
    assert_eq!(
        whole.len() + 1,
        at_once.len(),
        "a line is a line in however many pieces"
    );
    for (line, expected) in whole.iter().zip(at_once).take(MOST_LINES) {
        assert_eq!(line, expected);
        let Ok(line) = target.line(line) else { continue };
        match line {
            Line::Put(object) => server.put(object),
            Line::Gone(object) => server.say(News::Gone(read(kind, object).object().clone())),
            Line::Bookmark { ends_list: true, .. } => {
                server.say(News::Listing);
                server.say(News::Listed);
            }
            Line::Bookmark { .. } => {}
        }
    }
    server.nothing_stays();
}

fn lines_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut lines = Lines::new(kube::client::Body::empty());
    let mut found = Vec::new();
    for piece in pieces {
        lines.push(piece);
        while let Some(line) = lines.take() {
            found.push(line.to_vec());
        }
    }
    found
}

/// What is known of the one kind, and what was made of it.
struct Server {
    index: usize,
    kind: &'static Kind,
    gather: Gather,
    feed: Feed,
    reader: crate::config::Reader,
}

impl Server {
    /// Every kind is listed, and nothing is there but a namespace in the mesh.
    fn listed(kinds: &'static [Kind], index: usize) -> Self {
        let (feed, reader) = Feed::new(MeshSettings::default());
        let mut server = Self {
            index,
            kind: &kinds[index],
            gather: Gather::new(kinds),
            feed,
            reader,
        };
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "labels": {crate::config::MODE: "ambient"}}});
        let mut changes = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            server.gather.take(index, News::Listing, &mut changes);
            if kind.kind == "Namespace" {
                let namespace = News::Put(Box::new(read(kind, namespace.clone())));
                server.gather.take(index, namespace, &mut changes);
            }
            server.gather.take(index, News::Listed, &mut changes);
        }
        server.feed.apply(changes);
        server
    }

    fn put(&mut self, object: serde_json::Value) {
        self.say(News::Put(Box::new(read(self.kind, object))));
    }

    fn say(&mut self, news: News) {
        let mut changes: Vec<Change> = Vec::new();
        self.gather.take(self.index, news, &mut changes);
        self.feed.apply(changes);
    }

    /// An empty list takes everything away.
    fn nothing_stays(mut self) {
        self.say(News::Listing);
        self.say(News::Listed);
        let snapshot = self.reader.load();
        assert!(snapshot.complete && snapshot.problems.is_empty());
        assert_eq!(snapshot.workloads.len(), 0, "what is gone leaves nothing behind");
    }
}
