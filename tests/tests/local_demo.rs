//! `stillwake demo` as a newcomer runs it, but where nobody watches: plain lines, a table, an end of its own.
//!
//! Reads the table as text, which is what the demo promises; what its numbers are made of are other suites' business.

use std::{process::Stdio, time::Duration};

use stillwake_e2e::local::Launch;

/// By then the demo has ended, or its promise to do so is broken.
const DEADLINE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_goes_from_zero_to_many_to_zero_loses_nothing_and_ends() {
    let launch = Launch::new().unwrap();
    let mut command = launch.command("demo").unwrap();
    let demo = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(DEADLINE, demo.wait_with_output()).await;
    let output = ended.expect("the demo ends by itself").unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {errors}\n{shown}",
        output.status
    );

    assert_eq!(row(&shown, "failed"), "0", "{shown}");
    let requests: u64 = row(&shown, "requests").parse().unwrap();
    // Two that woke it, and one from each of forty connections at the least.
    assert!(requests >= 42, "{shown}");
    let course: Vec<u32> = row(&shown, "replicas")
        .split(" → ")
        .map(|count| count.parse().unwrap())
        .collect();
    let peak = course.iter().position(|count| *count >= 2);
    let peak = peak.unwrap_or_else(|| panic!("never two replicas: {shown}"));
    assert_eq!(course.first(), Some(&0), "{shown}");
    assert!(course[peak..].contains(&0), "{shown}");
    assert_eq!(course.last(), Some(&0), "{shown}");
    // Two cold starts, each of which had to wait for the app's start of 800 ms.
    let waits = row(&shown, "app ready").matches(" ms").count();
    assert_eq!(waits, 2, "{shown}");
    assert!(!shown.contains('\x1b'), "a terminal's codes in a pipe");
    assert_eq!(launch.processes(), [], "the demo left processes behind");
}

/// The table's value for `name`.
fn row<'a>(shown: &'a str, name: &str) -> &'a str {
    let mut rows = shown.lines().filter_map(|line| {
        // The name and its value stand two or more spaces apart.
        let (found, value) = line.trim().split_once("  ")?;
        (found == name).then_some(value.trim())
    });
    let value = rows.next_back();
    value.unwrap_or_else(|| panic!("no {name} in: {shown}"))
}
