//! Where and with what it was measured.

use std::{fmt, fs};

use anyhow::Context as _;
use serde::Serialize;
use tokio::process::Command;

use crate::context::{Context, INSTALLED};

/// The machine and what else it had to do.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    stillwake: String,
    processor: String,
    processors: usize,
    memory_gib: f64,
    kernel: String,
    system: String,
    /// Processes that ran or wanted to, as an average over a minute, at the beginning and at the end.
    load: Vec<f64>,
    /// What the peers and load generators say of themselves.
    pub versions: Vec<(String, String)>,
}

impl Environment {
    /// Looks at the machine before anything is measured.
    ///
    /// # Errors
    ///
    /// When this is not Linux.
    pub async fn begin(context: &Context) -> anyhow::Result<Self> {
        let memory: f64 = field("/proc/meminfo", "MemTotal", ':')?
            .trim_end_matches(" kB")
            .parse()?;
        Ok(Self {
            stillwake: env!("CARGO_PKG_VERSION").to_owned(),
            // Not every architecture names it.
            processor: field("/proc/cpuinfo", "model name", ':')
                .unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism()?.get(),
            memory_gib: memory / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            system: field("/etc/os-release", "PRETTY_NAME", '=').map_or_else(
                |_| "Linux".to_owned(),
                |name| name.trim_matches('"').to_owned(),
            ),
            load: vec![load()?],
            versions: versions(context).await,
        })
    }

    /// Looks again when all has been measured.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.load.push(load()?);
        Ok(())
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loads: Vec<_> = self.load.iter().map(ToString::to_string).collect();
        writeln!(
            formatter,
            "Stillwake {} on {} × {}, {:.0} GiB, {}, Linux {}; load average at the beginning and at the end: {}.",
            self.stillwake,
            self.processors,
            self.processor,
            self.memory_gib,
            self.system,
            self.kernel,
            loads.join(", "),
        )?;
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|(of, version)| format!("{of} {version}"))
            .collect();
        if !versions.is_empty() {
            writeln!(formatter, "Beside it: {}.", versions.join(", "))?;
        }
        Ok(())
    }
}

fn load() -> anyhow::Result<f64> {
    let averages = read("/proc/loadavg")?;
    let first = averages.split(' ').next().context("no load average")?;
    Ok(first.parse()?)
}

fn field(file: &str, name: &str, separator: char) -> anyhow::Result<String> {
    let text = read(file)?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.with_context(|| format!("no {name} in {file}"))
}

fn read(file: &str) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

/// What installed programs say of themselves.
async fn versions(context: &Context) -> Vec<(String, String)> {
    let mut versions = Vec::new();
    for (name, argument) in INSTALLED {
        let Ok(program) = context.program(name) else {
            continue;
        };
        let Ok(output) = Command::new(program).arg(argument).output().await else {
            continue;
        };
        // Some say it on standard error, and wrk fails saying it.
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        let mut words = printed.split([' ', '/', '-', '\n', '[']);
        let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        versions.push((
            name.to_owned(),
            version.unwrap_or("of an unknown version").to_owned(),
        ));
    }
    let modules = include_str!("../peers/go.mod");
    let queue = modules
        .lines()
        .find_map(|line| line.trim().strip_prefix("knative.dev/serving "));
    versions.extend(queue.map(|version| {
        (
            "queue-proxy".to_owned(),
            version.replace(" // indirect", ""),
        )
    }));
    versions
}
