//! Keeps docs/reference/sidecar-environment.md equal to the list of variables.

use std::{fmt::Write as _, fs};

use super::{Config, VARIABLES};

/// Set to rewrite the page instead of comparing it.
const UPDATE: &str = "STILLWAKE_UPDATE_DOCS";

fn page() -> String {
    let mut page = String::from(
        "# Environment of the sidecar\n\n\
         Generated from the list in `sidecar/src/env/variables.rs`; `STILLWAKE_UPDATE_DOCS=1 cargo test -p stillwake-sidecar \
         reference` rewrites it.\n\n\
         An empty value is the same as none. Everything that is wrong is named together on standard error, and the \
         sidecar exits with code 64.\n",
    );
    for variable in VARIABLES {
        write!(page, "\n## `{}`\n\n{}\n\n", variable.name, variable.purpose).unwrap();
        writeln!(page, "- Takes: {}.", variable.takes).unwrap();
        if let Some(default) = variable.default {
            writeln!(page, "- Default: `{default}`.").unwrap();
        }
    }
    page
}

#[test]
fn the_reference_page_lists_every_variable_as_it_is() {
    let path = std::env::current_dir()
        .unwrap()
        .join("../docs/reference/sidecar-environment.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/sidecar-environment.md is out of date; run the test with {UPDATE}=1 and commit the result"
    );
}

#[test]
fn every_variable_that_is_read_is_listed() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let _ = Config::read(|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    let listed = VARIABLES.iter().map(|variable| variable.name.to_owned());
    assert_eq!(asked.into_inner(), listed.collect());
}
