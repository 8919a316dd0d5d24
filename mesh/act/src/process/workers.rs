//! Workers: threads with a single-threaded runtime each, on which a connection lives and dies (design 11).

/// The workers of a process.
#[derive(Debug)]
pub struct Workers;
