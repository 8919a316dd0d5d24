//! What the peer may still send (RFC 9113 5.2): of one stream, or of all together.

/// Credit given to the peer.
#[derive(Debug)]
pub(super) struct Window {
    /// What the peer may have under way, in bytes.
    size: u32,
    /// What it may still send, by what we told it.
    open: u32,
    /// Given back since, and not told yet.
    back: u32,
}

impl Window {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            open: size,
            back: 0,
        }
    }

    /// Bytes arrive; false when the peer had no credit for them.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        match self.open.checked_sub(bytes) {
            Some(open) => {
                self.open = open;
                true
            }
            None => false,
        }
    }

    /// Bytes were passed on. Says by how much to raise the peer's window, once that is worth a frame.
    pub(super) fn release(&mut self, bytes: u32) -> Option<u32> {
        self.back += bytes;
        if self.back < self.size / 2 {
            return None;
        }
        let raise = std::mem::take(&mut self.back);
        self.open += raise;
        Some(raise)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn credit_is_neither_made_nor_lost(steps in proptest::collection::vec((0u32..3000, 0u32..3000), 0..200)) {
            let mut window = Window::new(1000);
            let (mut held, mut told) = (0u32, 1000u32);
            for (take, release) in steps {
                if window.take(take) {
                    prop_assert!(take <= told);
                    told -= take;
                    held += take;
                } else {
                    prop_assert!(take > told);
                }
                let release = release.min(held);
                held -= release;
                told += window.release(release).unwrap_or_default();
                prop_assert!(told + held <= 1000);
                prop_assert!(told + held + 500 > 1000, "half a window at most waits to be told");
            }
        }
    }
}
