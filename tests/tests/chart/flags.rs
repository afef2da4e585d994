//! The flags of `stillwake webhook` and `stillwake aggregator`, as the reference page of the command line has them.
//!
//! That page is what `--help` says, and a test of the command keeps it so.

use std::{collections::BTreeSet, fs, path::Path};

/// What the page does not have yet.
const PLANNED: [(&str, &str); 2] = [
    (
        "webhook",
        "namespace name listen admin service cluster-domain webhook-configuration authorities-secret authorities-lease \
         certificate-secret publish-authorities authority-lifetime leaf-lifetime settle clock-skew aggregator \
         sidecar-image sidecar-image-pull-policy sidecar-user sidecar-cpu-request sidecar-memory-request \
         sidecar-cpu-limit sidecar-memory-limit sidecar-admin redirect default-pod-security watch-namespace log \
         log-format drain-delay",
    ),
    (
        "aggregator",
        "namespace name admin cluster-domain watch-namespace log log-format drain-delay scaler reports service \
         reports-service authorities-secret certificate-secret require-tls client-authorities token-audience",
    ),
];

/// Returns the flags that a subcommand has, without dashes.
pub(crate) fn known(subcommand: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/stillwake.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(&format!("`stillwake {subcommand}`")));
    let Some(section) = section else {
        let planned = PLANNED
            .iter()
            .find(|(name, _)| *name == subcommand)
            .unwrap();
        return planned.1.split_whitespace().map(str::to_owned).collect();
    };
    let lines = section
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let names = lines.filter_map(|line| line.split_once("--")?.1.split([' ', '=', '[']).next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Returns the port of an address.
pub(crate) fn port(address: &str) -> u64 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}
