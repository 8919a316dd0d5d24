//! Admin, metrics and readiness endpoints of a process: a `match` on hyper, on loopback and, if asked, on a
//! Unix socket that `weft` finds.
