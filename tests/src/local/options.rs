//! Flags of `stillwake run` as a suite sets them.
//!
//! Knows no flag's meaning; a wrong one is the binary's to refuse.

use std::{collections::BTreeMap, fmt::Display};

/// Flags; each is there once, set again it is replaced.
#[derive(Clone, Debug, Default)]
pub struct Options {
    values: BTreeMap<&'static str, String>,
    switches: Vec<&'static str>,
}

impl Options {
    /// Ports of its own, and KEDA's and the HPA's intervals short enough for a test.
    pub fn quick() -> Self {
        Self::default()
            .with("--listen", "127.0.0.1:0")
            .with("--admin", "127.0.0.1:0")
            .with("--scaler", "127.0.0.1:0")
            .with("--cooldown", "1s")
            .with("--polling-interval", "200ms")
            .with("--sync-period", "200ms")
            .with("--stabilization", "1s")
            .with("--scale-up-period", "1s")
            .with("--window", "2s")
            .switch("--skip-check")
    }

    /// Sets a flag to a value.
    #[must_use]
    pub fn with(mut self, flag: &'static str, value: impl Display) -> Self {
        self.values.insert(flag, value.to_string());
        self
    }

    /// Sets a flag that takes no value.
    #[must_use]
    pub fn switch(mut self, flag: &'static str) -> Self {
        self.switches.push(flag);
        self
    }

    /// Takes a flag away again, so that its default holds.
    #[must_use]
    pub fn without(mut self, flag: &'static str) -> Self {
        self.values.remove(flag);
        self.switches.retain(|switch| *switch != flag);
        self
    }

    /// The flags as arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        let values = self
            .values
            .iter()
            .flat_map(|(flag, value)| [*flag, value.as_str()]);
        values.chain(self.switches.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_set_twice_is_given_once() {
        let options = Options::default()
            .with("--max", 1)
            .with("--max", 2)
            .switch("--skip-check");
        let arguments: Vec<_> = options.arguments().collect();
        assert_eq!(arguments, ["--max", "2", "--skip-check"]);
        assert_eq!(
            options
                .without("--max")
                .without("--skip-check")
                .arguments()
                .count(),
            0
        );
    }
}
