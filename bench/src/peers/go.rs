//! Knative's queue-proxy, and the least that Go's standard library takes to forward: built from Go modules, whose versions
//! `peers/go.mod` pins.

use std::path::PathBuf;

use stillwake_e2e::tools;
use tokio::process::Command;

use super::{Around, Mode, Place, wrapped};
use crate::context::Context;

/// Package of Knative's queue-proxy.
pub const QUEUE_PROXY: &str = "knative.dev/serving/cmd/queue";

/// Package of the plain proxy.
pub const PROXY: &str = "./proxy";

/// Builds one of the packages, unless it is there.
///
/// # Errors
///
/// When Go is missing, or the modules cannot be had.
pub async fn build(package: &str) -> anyhow::Result<PathBuf> {
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
    let installed = tools::are_installed(&["go"], package).await?;
    anyhow::ensure!(installed, "Go isn't installed");
    tools::go_program(module, package).await
}

pub(super) fn proxy(
    context: &Context,
    around: &Around,
    place: &Place<'_>,
) -> anyhow::Result<Command> {
    let mut command = wrapped(around, context.program(PROXY)?);
    command.env("GOMAXPROCS", "1");
    command
        .arg(place.listen.to_string())
        .arg(place.upstream.to_string());
    if place.mode == Mode::Http2 {
        command.arg("h2");
    }
    Ok(command)
}

pub(super) fn queue_proxy(
    context: &Context,
    around: &Around,
    place: &Place<'_>,
) -> anyhow::Result<Command> {
    let mut command = wrapped(around, context.program(QUEUE_PROXY)?);
    let listen = place.listen.port().to_string();
    let app = place.upstream.port().to_string();
    command.envs([
        ("GOMAXPROCS", "1"),
        ("CONTAINER_CONCURRENCY", "0"),
        ("QUEUE_SERVING_PORT", &listen),
        ("QUEUE_SERVING_TLS_PORT", "8112"),
        ("USER_PORT", &app),
        ("REVISION_TIMEOUT_SECONDS", "300"),
        ("SERVING_LOGGING_CONFIG", ""),
        ("SERVING_LOGGING_LEVEL", "error"),
        ("SERVING_NAMESPACE", "default"),
        ("SERVING_CONFIGURATION", "app"),
        ("SERVING_REVISION", "app-00001"),
        ("SERVING_POD", "app-0"),
        ("SERVING_POD_IP", "127.0.0.1"),
        ("SERVING_SERVICE", "app"),
        ("ENABLE_HTTP_FULL_DUPLEX", "false"),
        ("ENABLE_HTTP2_AUTO_DETECTION", "false"),
    ]);
    Ok(command)
}
