//! Bursts under plain KEDA: how soon the HPA asks for all replicas, what many at once do to others, and what is left of one
//! when parts fail.
//!
//! How long it takes is printed. What is asserted is that it gets there, without going too far and without a loss. With older
//! releases of KEDA or Kubernetes the HPA takes its own turn, and nothing is written.

mod crowd;
mod faults;
mod hpa;
mod shapes;
mod step;
mod zero;

use anyhow::Context;
use stillwake_e2e::cluster::Namespace;

/// Returns whether looks can be asked for with the KEDA that runs, and follow with the Kubernetes that does.
fn are_asked_for(namespace: &Namespace) -> anyhow::Result<bool> {
    let running = namespace.cluster().running()?;
    let follow = minor(running.kubernetes())? >= 37 && !running.is_switched_off("HPAGeneration");
    Ok(follow && opens_streams(namespace)?)
}

/// Returns whether the KEDA that runs opens streams of specs.
fn opens_streams(namespace: &Namespace) -> anyhow::Result<bool> {
    Ok(minor(namespace.cluster().running()?.keda())? >= 21)
}

fn minor(version: &str) -> anyhow::Result<u32> {
    let minor = version.split('.').nth(1);
    let minor = minor.with_context(|| format!("no version: {version:?}"))?;
    minor
        .parse()
        .with_context(|| format!("no version: {version:?}"))
}
