//! The metrics every process has: its build, and what it takes from the machine.

use std::{fmt, fs, io, num::TryFromIntError, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};
use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

/// Returns a registry that already holds `stillwake_build_info` and the `process_*` family.
pub fn registry(component: &'static str) -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "stillwake_build",
        "Version of the running build",
        Info::new(vec![
            ("component", component),
            ("version", env!("CARGO_PKG_VERSION")),
        ]),
    );
    registry.register_collector(Box::new(ProcessCollector));
    registry
}

/// Reads /proc/self at each scrape; a field that cannot be read is left out.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Ok(spent) = cpu_time() {
            let cpu = ConstCounter::new(spent.as_secs_f64());
            let described = encoder.encode_descriptor(
                "process_cpu",
                "User and system time spent",
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?;
            cpu.encode(described)?;
        }
        if let Some(bytes) = resident_memory() {
            gauge(
                &mut encoder,
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                bytes,
            )?;
        }
        if let Ok(open) = open_files() {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors",
                None,
                open,
            )?;
        }
        Ok(())
    }
}

/// Returns the user and system time that this process has spent in all its threads.
fn cpu_time() -> Result<Duration, TryFromIntError> {
    clock_gettime(ClockId::ProcessCPUTime).try_into()
}

/// Returns how many bytes are resident, from the second field of `/proc/self/statm`, which counts pages.
fn resident_memory() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size() as u64))
}

/// Returns how many files are open, without the one that tells.
fn open_files() -> io::Result<u64> {
    let listed = fs::read_dir("/proc/self/fd")?.count() as u64;
    Ok(listed.saturating_sub(1))
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_tells_its_build_and_what_it_uses() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry("tests")).unwrap();
        assert!(
            text.contains("stillwake_build_info{component=\"tests\""),
            "{text}"
        );
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            let told = text.lines().find_map(|line| line.strip_prefix(name));
            let value: Option<f64> = told.and_then(|value| value.parse().ok());
            assert!(value > Some(0.0), "{name}is {value:?} in:\n{text}");
        }
    }
}
