//! `weft-demo`: the mesh on this machine, shown or checked.

fn main() {}
