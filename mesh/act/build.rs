//! Compiles the protocols of `proto/` by a compiler written in Rust, so that nobody needs `protoc`.

use std::{error::Error, io};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/certificates.proto"], ["proto"]).map_err(io::Error::other)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(files)?;
    Ok(())
}
