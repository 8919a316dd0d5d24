//! Requests that are no CONNECT, until they are whole. They are refused then and not before, so that whatever else is
//! wrong with them is told as that (RFC 9113 8.1.1). Their content is counted and not kept.

use http::{Method, header::CONTENT_LENGTH};

use super::frames::Head;

/// Those of one tunnel; the bound of its streams is theirs, too.
#[derive(Debug, Default)]
pub(super) struct Foreign(Vec<Request>);

#[derive(Debug)]
struct Request {
    number: u32,
    head: Head,
    /// Bytes of content until now.
    content: u64,
}

/// The request says how long its content is, and that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Foreign {
    /// Keeps the head of a request that is no CONNECT; gives back any other.
    pub(super) fn keep(&mut self, number: u32, head: Head) -> Option<Head> {
        match &head {
            Head::Request(request) if request.method() != Method::CONNECT => {
                self.0.push(Request {
                    number,
                    head,
                    content: 0,
                });
                None
            }
            Head::Request(_) | Head::TooLong(_) => Some(head),
        }
    }

    /// Content came in.
    pub(super) fn count(&mut self, number: u32, bytes: usize) {
        if let Some(request) = self.0.iter_mut().find(|request| request.number == number) {
            request.content = request.content.saturating_add(bytes as u64);
        }
    }

    /// A stream is over, or whole: its head, if it was one of these.
    pub(super) fn take(&mut self, number: u32) -> Option<Result<Head, Malformed>> {
        let place = self.0.iter().position(|request| request.number == number)?;
        let Request { head, content, .. } = self.0.swap_remove(place);
        let told = match &head {
            Head::Request(request) => request.headers().get_all(CONTENT_LENGTH),
            Head::TooLong(_) => return Some(Ok(head)),
        };
        let lawful = told.iter().all(|length| {
            let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
            length == Some(content)
        });
        Some(if lawful { Ok(head) } else { Err(Malformed) })
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
