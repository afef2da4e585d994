//! The metrics every process has: its build, and what it takes from the machine.

use procfs::process::Process;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
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
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Ok(process) = Process::myself() else {
            return Ok(());
        };
        if let Ok(stat) = process.stat() {
            let ticks = stat.utime + stat.stime;
            let cpu = ConstCounter::new(ticks as f64 / procfs::ticks_per_second() as f64);
            let described = encoder.encode_descriptor(
                "process_cpu",
                "User and system time spent",
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?;
            cpu.encode(described)?;
            gauge(
                &mut encoder,
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                stat.rss.saturating_mul(procfs::page_size()),
            )?;
        }
        if let Ok(descriptors) = process.fd_count() {
            let open = descriptors as u64;
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

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> Result<(), std::fmt::Error> {
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
        for name in [
            "stillwake_build_info{component=\"tests\"",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            assert!(text.contains(name), "{name} is missing from:\n{text}");
        }
    }
}
