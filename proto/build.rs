//! Generates the Rust types of `proto/*.proto` without an installed `protoc`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let report = protox::compile([folder.join("report.proto")], [folder])?;
    prost_build::Config::new()
        .type_attribute("Workload", "#[derive(PartialOrd, Ord)]")
        .compile_fds(report)?;
    #[cfg(feature = "scaler")]
    {
        let scaler = protox::compile([folder.join("externalscaler.proto")], [folder])?;
        tonic_prost_build::configure().compile_fds(scaler)?;
    }
    Ok(())
}
