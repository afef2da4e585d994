//! Keeps what is heavy out of the sidecar, which runs beside every replica of every app.

use std::process::Command;

/// Crates that have no place in the sidecar, by the beginning of their names.
const FORBIDDEN: [&str; 9] = [
    "axum",
    "clap",
    "hickory",
    "k8s-openapi",
    "kube",
    "procfs",
    "regex",
    "schemars",
    "tonic",
];

#[test]
fn nothing_heavy_is_in_the_dependency_tree() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            env!("CARGO_PKG_NAME"),
            "-e",
            "normal",
            "--prefix",
            "none",
            "--locked",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "cargo tree failed:\n{told}");
    let crates = String::from_utf8(tree.stdout).unwrap();
    assert!(
        crates.contains("stillwake-proxy"),
        "not the tree that was meant:\n{crates}"
    );
    for line in crates.lines() {
        let heavy = FORBIDDEN.iter().find(|name| line.starts_with(**name));
        assert_eq!(heavy, None, "the sidecar depends on {line}");
    }
}
