//! What the parts of local mode are told, and what of the machine they need.
//!
//! In which order they come and go is decided in `run`.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf};

use stillwake_proto::{report::Workload, scaler::ScaledObjectRef};

use super::{NAMESPACE, RunError, part};
use crate::local::{options::Options, process::find_program, scaler};

/// Endpoint frames that wait to be handled; the aggregator waits when they are full.
pub(super) const WAITING_ENDPOINTS: usize = 64;

pub(super) fn scaler_settings(
    options: &Options,
    workload: &Workload,
    address: SocketAddr,
) -> scaler::Settings {
    let window = humantime::format_duration(options.window).to_string();
    let targets = [
        ("targetConcurrency", options.target_concurrency),
        ("targetRequestRate", options.target_request_rate),
    ];
    let targets = targets
        .into_iter()
        .filter_map(|(key, target)| Some((key, target?.to_string())));
    let others = [("scalerAddress", address.to_string()), ("window", window)];
    let metadata = others.into_iter().chain(targets);
    scaler::Settings {
        scaled_object: ScaledObjectRef {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            scaler_metadata: metadata
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        },
        keda: options.keda,
        hpa: options.hpa,
        polling_interval: options.polling_interval,
        sync_period: options.sync_period,
    }
}

/// Names the workload after the command's program.
pub(super) fn workload(command: &[String]) -> Workload {
    let program = command.first().map_or("", String::as_str);
    let name = std::path::Path::new(program)
        .file_stem()
        .and_then(OsStr::to_str);
    Workload {
        namespace: NAMESPACE.to_owned(),
        kind: "Process".to_owned(),
        name: name.unwrap_or("app").to_owned(),
    }
}

pub(super) fn sidecar(options: &Options) -> Result<PathBuf, RunError> {
    let path = match &options.sidecar {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(part("the sidecar"))?
            .with_file_name("stillwake-sidecar"),
    };
    // A bare name is meant as a file here, not to be looked for on PATH.
    let path = std::path::absolute(&path).unwrap_or(path);
    match find_program(&path.to_string_lossy(), None) {
        Ok(_) => Ok(path),
        Err(reason) => Err(RunError::Sidecar { path, reason }),
    }
}
