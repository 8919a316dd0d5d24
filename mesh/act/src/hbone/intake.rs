//! What comes in for the streams of a tunnel: straight from where it was decrypted into a socket that takes it,
//! else into the stream's queue.

use std::io::IoSlice;

use tokio::sync::Notify;

use super::{
    core::Core,
    frames::{Event, Fault},
    socket::write_slices,
};

/// Pieces written at once.
const SLICES: usize = 64;

/// Pieces of one stream that came in one after the other.
pub(super) struct Batch<'i> {
    stream: u32,
    slices: [IoSlice<'i>; SLICES],
    filled: usize,
    bytes: usize,
}

impl Batch<'_> {
    pub(super) fn new() -> Self {
        Self {
            stream: 0,
            slices: [IoSlice::new(&[]); SLICES],
            filled: 0,
            bytes: 0,
        }
    }
}

impl Core {
    /// Takes plaintext. What is in `batch` afterwards is to be delivered once nothing follows.
    ///
    /// # Errors
    /// What the peer did wrong.
    pub(super) fn take<'i>(&mut self, mut plain: &'i [u8], batch: &mut Batch<'i>, alive: &Notify) -> Result<(), Fault> {
        while let Some(event) = self.endpoint.receive(&mut plain)? {
            let Event::Data(number, bytes) = event else {
                self.deliver(batch);
                self.happened(event, alive);
                continue;
            };
            if batch.stream != number || batch.filled == SLICES {
                self.deliver(batch);
                batch.stream = number;
            }
            if let Some(slice) = batch.slices.get_mut(batch.filled) {
                *slice = IoSlice::new(bytes);
                batch.filled += 1;
                batch.bytes += bytes.len();
            }
        }
        Ok(())
    }

    /// Passes on what was gathered.
    pub(super) fn deliver(&mut self, batch: &mut Batch<'_>) {
        let (number, bytes) = (batch.stream, std::mem::take(&mut batch.bytes));
        let filled = std::mem::take(&mut batch.filled);
        let slices = batch.slices.get(..filled).unwrap_or_default();
        if bytes == 0 {
            return;
        }
        // A look at what waits of one stream costs something: not while little waits of all of them.
        let crowded = self.load.is_half_full(self.endpoint.unread());
        let Some(flow) = self.endpoint.user(number) else {
            return;
        };
        let mut passed = 0;
        if flow.deaf || flow.failed.is_some() {
            passed = bytes;
            self.foreign.count(number, bytes);
        } else if let Some(outlet) = flow.outlet.as_ref().filter(|_| flow.queue.is_empty()) {
            match write_slices(&outlet.socket, slices) {
                Ok(written) => {
                    passed = written.unwrap_or_default();
                    outlet.progress.back(passed);
                }
                Err(error) => {
                    flow.failed = Some(error);
                    passed = bytes;
                }
            }
        }
        if passed < bytes {
            let before = crowded.then(|| flow.unread());
            let mut skip = passed;
            for slice in slices {
                let rest = slice.get(skip.min(slice.len())..).unwrap_or_default();
                skip -= slice.len() - rest.len();
                if !rest.is_empty() {
                    flow.push(rest);
                }
            }
            if let Some(before) = before {
                self.load.waits(before, bytes - passed);
            }
        }
        if (passed < bytes || flow.failed.is_some())
            && let Some(reader) = flow.reader.take()
        {
            reader.wake();
        }
        self.endpoint.release(number, passed);
    }
}
