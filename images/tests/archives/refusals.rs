//! What makes no archive, and what is said then.

use std::{error::Error as _, fs, os::unix::fs::symlink, path::Path};

use stillwake_images::{Image, build};

use crate::harness::{INTERPRETER, LEAST, LOAD, NAME, RISCV, Sources, X86_64, executable};

fn refused(sources: &Sources, said: &[&str]) {
    let error = sources.build().unwrap_err();
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let message = format!("{error}: {cause}");
    for part in said {
        assert!(
            message.contains(part),
            "{part:?} is missing from: {message}"
        );
    }
    assert!(!sources.output().exists());
}

#[test]
fn a_dynamic_executable_is_refused_with_how_to_build_it_static() {
    let sources = Sources::new(LEAST);
    sources.write("app", &executable(X86_64, INTERPRETER), 0o755);
    refused(
        &sources,
        &["app is linked dynamically", "+crt-static", "CGO_ENABLED=0"],
    );
}

#[test]
fn a_program_that_is_no_elf_file_is_refused() {
    let sources = Sources::new(LEAST);
    for script in [
        "#!/bin/sh\necho A shell script that is long enough for a header\n",
        "",
    ] {
        sources.write("app", script.as_bytes(), 0o755);
        refused(
            &sources,
            &["app is not an ELF executable", "compiled for Linux"],
        );
    }
}

#[test]
fn a_machine_that_images_are_not_made_for_is_refused() {
    let sources = Sources::new(LEAST);
    sources.write("app", &executable(RISCV, LOAD), 0o755);
    refused(&sources, &["ELF machine 243", "62 (amd64) and 183 (arm64)"]);
}

#[test]
fn a_program_that_may_not_be_executed_is_refused() {
    let sources = Sources::new(LEAST);
    sources.write("app", &executable(X86_64, LOAD), 0o644);
    refused(
        &sources,
        &[
            "Containerfile:3: /app may not be executed",
            "COPY --chmod=0755",
        ],
    );
    sources.write(
        "Containerfile",
        LEAST.replace("COPY", "COPY --chmod=0755").as_bytes(),
        0o644,
    );
    sources.build().unwrap();
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    for (rest, said) in [
        (
            "ENTRYPOINT [\"/other\"]",
            "the image runs /other, but no COPY puts a file there",
        ),
        (
            "WORKDIR /data\nENTRYPOINT [\"/data\"]",
            "the image runs /data, but no COPY",
        ),
        ("COPY missing /a", "Containerfile:4: cannot copy"),
        (
            "COPY folder /a",
            "folder is not a regular file; copy files one by one",
        ),
        ("COPY app /app", "Containerfile:4: /app is copied twice"),
        (
            "COPY app /app/app",
            "Containerfile:4: /app is a file of the image already",
        ),
        (
            "WORKDIR /app",
            "Containerfile:4: /app is a file of the image already",
        ),
        (
            "COPY app /a/b\nCOPY app /a",
            "Containerfile:5: /a is a folder of the image already; to copy into it, write /a/",
        ),
    ] {
        let sources = Sources::new(&format!("{LEAST}{rest}\n"));
        fs::create_dir(sources.path("folder")).unwrap();
        refused(&sources, &[said]);
    }
}

#[test]
fn a_containerfile_that_is_not_there_is_named() {
    let sources = Sources::new(LEAST);
    fs::remove_file(sources.path("Containerfile")).unwrap();
    refused(&sources, &["cannot read", "Containerfile", "No such file"]);
}

#[test]
fn a_short_name_is_refused() {
    let sources = Sources::new(LEAST);
    let image = Image {
        containerfile: &sources.path("Containerfile"),
        context: &sources.path(""),
        name: "app:1.2",
    };
    let error = build(&image, &sources.output()).unwrap_err().to_string();
    assert!(
        error.contains("'app:1.2' is not a full image name"),
        "{error}"
    );
    assert!(!sources.output().exists());
}

/// As by a file that something writes to meanwhile.
#[test]
fn a_file_that_ends_too_early_is_refused_and_leaves_an_earlier_archive_and_no_other_file() {
    let sources = Sources::new(&format!("{LEAST}COPY short /short\n"));
    sources.write("short", b"Some text\n", 0o644);
    sources.build().unwrap();
    let before = fs::read(sources.output()).unwrap();
    let files = || fs::read_dir(sources.path("")).unwrap().count();
    let count = files();

    // Files of sysfs say the size of a page, and hold less.
    fs::remove_file(sources.path("short")).unwrap();
    symlink("/sys/devices/system/cpu/online", sources.path("short")).unwrap();
    let error = sources.build().unwrap_err();
    assert!(error.to_string().starts_with("cannot copy "), "{error}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("it became shorter"), "{cause}");
    assert!(
        fs::read(sources.output()).unwrap() == before,
        "the archive changed"
    );
    assert_eq!(files(), count);
}

#[test]
fn an_output_folder_that_is_not_there_is_named() {
    let sources = Sources::new(LEAST);
    let image = Image {
        containerfile: &sources.path("Containerfile"),
        context: &sources.path(""),
        name: NAME,
    };
    let error = build(&image, Path::new("/not/there/image.tar")).unwrap_err();
    assert_eq!(error.to_string(), "cannot write /not/there/image.tar");
}
