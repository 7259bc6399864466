//! Compiles the node-to-node schema without protoc.

use std::io;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=schema");
    let files = protox::compile(["schema/roster.proto", "schema/shard.proto", "schema/node.proto"], ["schema"])
        .map_err(io::Error::other)?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)
}
