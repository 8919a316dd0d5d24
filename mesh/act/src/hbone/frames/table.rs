//! Header fields known by number: the static table (RFC 7541 appendix A) and the peer's dynamic one (2.3.2).

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry costs beside its bytes (RFC 7541 4.1).
const OVERHEAD: usize = 32;

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// A name and a value.
pub(super) type Field = (Bytes, Bytes);

/// Both tables, as the peer's encoder sees them.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Field>,
    size: usize,
    /// As the peer last said.
    capacity: usize,
    /// What we allow.
    most: usize,
}

impl Table {
    /// Allows a dynamic table of `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity: most,
            most,
        }
    }

    /// The field of a number (RFC 7541 2.3.3).
    pub(super) fn field(&self, index: usize) -> Option<Field> {
        let at = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Some((
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            ));
        }
        self.entries.get(at - STATIC.len()).cloned()
    }

    /// Adds a field, for which older ones may have to go (RFC 7541 4.4).
    pub(super) fn insert(&mut self, field: Field) {
        let size = field.0.len() + field.1.len() + OVERHEAD;
        self.shrink(self.capacity.saturating_sub(size));
        if size <= self.capacity {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    /// The peer's encoder changes its size (RFC 7541 6.3); false when beyond what we allow.
    pub(super) fn resize(&mut self, capacity: usize) -> bool {
        if capacity > self.most {
            return false;
        }
        self.capacity = capacity;
        self.shrink(capacity);
        true
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some((name, value)) = self.entries.pop_back() else {
                return;
            };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }

    #[cfg(test)]
    pub(super) fn dynamic(&self) -> (usize, Vec<(String, String)>) {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let entries = self.entries.iter().map(|(name, value)| (text(name), text(value)));
        (self.size, entries.collect())
    }
}
