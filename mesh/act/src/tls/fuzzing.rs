//! An entrance for `make fuzz`, and for the test that tries again what fuzzing has kept: bytes come in and play a peer
//! whose handshake is done, and who then says anything. A panic is a finding. No program calls this.

use std::{cell::RefCell, sync::Arc};

use decide::model::Identity;
use tokio::{io::DuplexStream, runtime::Runtime};

use super::{Channel, Records, accept, connect};
use crate::certs::{Leaf, local::LocalAuthority};

type Ends = (Channel<DuplexStream>, Channel<DuplexStream>);

/// Who makes handshakes.
struct Parties {
    runtime: Runtime,
    web: Arc<Leaf>,
    db: Arc<Leaf>,
}

thread_local! {
    static PARTIES: RefCell<Option<Parties>> = const { RefCell::new(None) };
}

/// Records that the peer encrypts, and bytes that nobody did: the first byte says which side reads, then come pieces,
/// each with its kind, its length and the type of its record.
pub fn records(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else {
        return;
    };
    let ends = PARTIES.with_borrow_mut(|parties| {
        if parties.is_none() {
            *parties = Parties::new();
        }
        parties.as_ref().and_then(Parties::shake)
    });
    let Some((near, far)) = ends else { return };
    let (mut from, mut to) = if first % 2 == 0 { (near, far) } else { (far, near) };
    let mut wire = Vec::new();
    while let Some(([how, length, kind], after)) = rest.split_first_chunk::<3>() {
        let (piece, after) = after.split_at_checked((*length).into()).unwrap_or((after, &[]));
        rest = after;
        match how % 4 {
            0 => wire.extend_from_slice(piece),
            1 => drop(from.records.record(*kind, &piece.repeat(200), &mut wire)),
            _ => drop(from.records.record(*kind, piece, &mut wire)),
        }
        if how % 8 < 5 && !hear(&mut to.records, &mut wire) {
            break;
        }
    }
    hear(&mut to.records, &mut wire);
}

/// Reads what is there; false when the connection is over.
fn hear(records: &mut Records, wire: &mut Vec<u8>) -> bool {
    let mut plain = Vec::new();
    let opened = records.open(wire, &mut plain);
    for range in plain {
        assert!(wire.get(range).is_some_and(|bytes| !bytes.is_empty()));
    }
    let mut said = Vec::new();
    match opened {
        Ok(opened) => {
            drop(wire.drain(..opened.read));
            // A key that is due is replaced.
            let _ = records.owes() && records.seal(&mut []).is_ok();
            !opened.ended
        }
        Err(error) => {
            records.abort(&error, &mut said);
            false
        }
    }
}

impl Parties {
    fn new() -> Option<Self> {
        let authority = LocalAuthority::new().ok()?;
        let leaf = |account| {
            authority
                .leaf(&Identity::new("cluster.local", "shop", account).ok()?)
                .ok()
        };
        Some(Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().ok()?,
            web: leaf("web")?,
            db: leaf("db")?,
        })
    }

    fn shake(&self) -> Option<Ends> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let shaken = self
            .runtime
            .block_on(async { tokio::join!(connect(&self.web, near, &self.db.identity), accept(&self.db, far)) });
        match shaken {
            (Ok((client, _)), Ok((server, _))) => Some((client, server)),
            _ => None,
        }
    }
}
