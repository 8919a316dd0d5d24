//! What the peer may still send (RFC 9113 5.2): of one stream, or of all together.

/// Credit given to the peer.
#[derive(Debug)]
pub(super) struct Window {
    /// What the peer may have under way, in bytes.
    size: u32,
    /// What it may still send, by what we told it; below zero after we lowered it (RFC 9113 6.9.2).
    open: i64,
    /// Given back since, and not told yet.
    back: u32,
}

impl Window {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            open: size.into(),
            back: 0,
        }
    }

    /// Bytes arrive; false when the peer had no credit for them.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        if bytes > 0 && self.open < i64::from(bytes) {
            return false;
        }
        self.open -= i64::from(bytes);
        true
    }

    /// Bytes were passed on. Says by how much to raise the peer's window, once that is worth a frame: at half of what
    /// it may be, or of `worth` where that is less.
    pub(super) fn release(&mut self, bytes: u32, worth: u32) -> Option<u32> {
        self.back += bytes;
        if self.back < (self.size.min(worth) / 2).max(1) {
            return None;
        }
        let raise = std::mem::take(&mut self.back);
        self.open += i64::from(raise);
        Some(raise)
    }

    /// The peer knows of another size, and has changed what it may still send by the difference.
    pub(super) fn resize(&mut self, size: u32) {
        self.open += i64::from(size) - i64::from(self.size);
        self.size = size;
    }

    /// Bytes were passed on for which the peer gets no credit again.
    pub(super) fn keep(&mut self, bytes: u32) {
        self.size = self.size.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn credit_is_neither_made_nor_lost(
            steps in proptest::collection::vec((0u32..3000, 0u32..3000, proptest::option::weighted(0.1, 0u32..2000)), 0..200),
        ) {
            let mut window = Window::new(1000);
            let (mut size, mut held, mut told) = (1000u32, 0u32, 1000i64);
            for (take, release, resize) in steps {
                if window.take(take) {
                    prop_assert!(i64::from(take) <= told || take == 0);
                    told -= i64::from(take);
                    held += take;
                } else {
                    prop_assert!(i64::from(take) > told);
                }
                if let Some(other) = resize {
                    window.resize(other);
                    told += i64::from(other) - i64::from(size);
                    size = other;
                }
                let release = release.min(held);
                held -= release;
                told += i64::from(window.release(release, u32::MAX).unwrap_or_default());
                prop_assert!(told + i64::from(held) <= size.into());
                let untold = i64::from(size) - told - i64::from(held);
                prop_assert!(untold == 0 || untold < i64::from(size / 2), "half a window at most waits to be told");
            }
        }
    }
}
