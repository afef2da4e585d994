//! Keeps docs/reference/trigger-metadata.md equal to what the aggregator reads.

use std::{fmt::Write as _, fs};

use super::{KEDAS_KEYS, METADATA_KEYS};

/// Set to rewrite the page instead of comparing it.
const UPDATE: &str = "STILLWAKE_UPDATE_DOCS";

fn page() -> String {
    let mut page = String::from(
        "# Trigger metadata\n\n\
         The `metadata` of a trigger of type `external-push` in a ScaledObject: the whole configuration of one workload. \
         Values are strings. KEDA reads `scalerAddress`, and passes all of it on.\n\n\
         Generated from `aggregator/src/trigger.rs`; `STILLWAKE_UPDATE_DOCS=1 cargo test -p stillwake-aggregator \
         reference` rewrites it.\n",
    );
    for key in METADATA_KEYS {
        write!(
            page,
            "\n## `{}`\n\n{}\n\n- Takes: {}.\n- Default: {}.\n",
            key.name, key.purpose, key.takes, key.default
        )
        .unwrap();
    }
    write!(
        page,
        "\n## What KEDA reads itself\n\n{}. A value that makes no sense and any other key are refused: an Event of \
         Stillwake's on the ScaledObject says why. KEDA itself says only \"no metric specs returned\".\n",
        KEDAS_KEYS.map(|key| format!("`{key}`")).join(", ")
    )
    .unwrap();
    page
}

#[test]
fn the_reference_page_says_what_is_read() {
    let path = std::env::current_dir()
        .unwrap()
        .join("../docs/reference/trigger-metadata.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/trigger-metadata.md is out of date; run the test with {UPDATE}=1 and commit the result"
    );
}
