//! Keeps docs/reference/stillwake.md equal to what `--help` says.

use std::{fmt::Write as _, fs};

use clap::{Command, CommandFactory as _};

use super::Args;

/// Set to rewrite the page instead of comparing it.
const UPDATE: &str = "STILLWAKE_UPDATE_DOCS";

/// Characters in a line, whatever the terminal of whoever runs the test.
const WIDTH: usize = 100;

fn section(page: &mut String, mut command: Command) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(
        page,
        "\n## `{}`\n\n```text\n{}\n```\n",
        command.get_bin_name().unwrap_or("stillwake"),
        lines.join("\n").trim_end()
    )
    .unwrap();
}

fn page() -> String {
    let mut page = String::from(
        "# Command line\n\n\
         What `--help` says; `STILLWAKE_UPDATE_DOCS=1 cargo test -p stillwake reference` rewrites this page.\n",
    );
    let mut all = Args::command().term_width(WIDTH);
    all.build();
    section(&mut page, all.clone());
    let shown = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in shown.filter(|command| command.get_name() != "help") {
        section(&mut page, command.clone());
    }
    page
}

#[test]
fn the_reference_page_is_what_the_help_says() {
    let path = std::env::current_dir()
        .unwrap()
        .join("../docs/reference/stillwake.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/stillwake.md is out of date; run the test with {UPDATE}=1 and commit the result"
    );
}
