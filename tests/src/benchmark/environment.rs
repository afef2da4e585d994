//! Where and with what it was measured.

use std::{fmt, fs};

use anyhow::Context;
use serde::Serialize;

use crate::cluster::{Namespace, http_add_on};

/// The machine and the versions of what runs on it.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    stillwake: String,
    http_add_on: String,
    keda: String,
    kubernetes: String,
    nodes: usize,
    processor: String,
    processors: usize,
    memory_gib: f64,
    kernel: String,
    /// Processes that ran or wanted to, as an average over a minute, at the beginning and at the end.
    load: Vec<f64>,
}

impl Environment {
    /// Reads it, before anything is measured.
    ///
    /// # Errors
    ///
    /// When the HTTP Add-on is not installed, or the machine does not say what it is.
    pub async fn begin(namespace: &Namespace) -> anyhow::Result<Self> {
        let running = namespace.cluster().running()?;
        let memory: f64 = field("/proc/meminfo", "MemTotal")?
            .trim_end_matches(" kB")
            .parse()?;
        let kernel = read("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            stillwake: env!("CARGO_PKG_VERSION").to_owned(),
            http_add_on: http_add_on::version(namespace).await?,
            keda: running.keda().to_owned(),
            kubernetes: running.kubernetes().to_owned(),
            nodes: running.nodes().len(),
            // Not every architecture names it.
            processor: field("/proc/cpuinfo", "model name")
                .unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism()?.get(),
            memory_gib: memory / f64::from(1 << 20),
            kernel: kernel.trim().to_owned(),
            load: vec![load()?],
        })
    }

    /// Reads the load once more, after it.
    ///
    /// # Errors
    ///
    /// When the machine does not say.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.load.push(load()?);
        Ok(())
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Stillwake {} and the HTTP Add-on {}, with KEDA {} on Kubernetes {} of {} node(s); {} × {}, {:.0} GiB, Linux {}; \
             load average {}",
            self.stillwake,
            self.http_add_on,
            self.keda,
            self.kubernetes,
            self.nodes,
            self.processors,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.load
                .iter()
                .map(|load| format!("{load:.1}"))
                .collect::<Vec<_>>()
                .join(" before, then "),
        )
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// Returns the first value of a name in a file of lines `name: value`.
fn field(path: &str, name: &str) -> anyhow::Result<String> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.with_context(|| format!("{path} has no {name:?}"))
}

fn load() -> anyhow::Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("no load average: {text:?}"))
}
