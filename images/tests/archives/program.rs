//! The command: what it prints, and its exit codes.

use std::process::{Command, Output};

use crate::harness::{INTERPRETER, LEAST, NAME, Sources, X86_64, executable};

fn run(sources: &Sources) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stillwake-images"))
        .arg("--containerfile")
        .arg(sources.path("Containerfile"))
        .arg("--context")
        .arg(sources.path(""))
        .args(["--name", NAME, "--output"])
        .arg(sources.output())
        .output()
        .unwrap()
}

#[test]
fn it_prints_name_digest_and_size_of_what_it_built() {
    let sources = Sources::new(LEAST);
    let Output { status, stdout, .. } = run(&sources);
    assert!(status.success());
    let index = sources.archive().json("index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let size = std::fs::metadata(sources.output()).unwrap().len();
    let expected = format!("name    {NAME}\ndigest  {digest}\nsize    {size} bytes\n");
    assert_eq!(String::from_utf8(stdout).unwrap(), expected);
}

#[test]
fn it_says_why_it_built_nothing() {
    let sources = Sources::new(LEAST);
    sources.write("app", &executable(X86_64, INTERPRETER), 0o755);
    let Output {
        status,
        stdout,
        stderr,
    } = run(&sources);
    assert_eq!(status.code(), Some(1));
    assert!(stdout.is_empty());
    let said = String::from_utf8(stderr).unwrap();
    assert!(
        said.starts_with("stillwake-images: ") && said.contains("linked dynamically"),
        "{said}"
    );
}
