//! What is in an archive.

use std::fs;

use serde_json::json;
use tar::EntryType;

use crate::harness::{AARCH64, Entry, LEAST, LOAD, NAME, Sources, X86_64, executable};

const FULL: &str = "\
FROM scratch
LABEL b=2 a=1 c=3 d=4
ENV NAME=value PATH=/bin
EXPOSE 8080 53/udp
WORKDIR /data/own
COPY app /usr/bin/
COPY --chmod=0600 notes /notes/secret
COPY notes /notes/public
USER 65532:65532
ENTRYPOINT [\"/usr/bin/app\"]
CMD [\"--listen\", \":8080\"]
";

fn full() -> Sources {
    let sources = Sources::new(FULL);
    sources.write("notes", b"Some text\n", 0o664);
    sources
}

#[test]
fn the_index_names_the_image_and_its_one_manifest() {
    let sources = Sources::new(LEAST);
    let built = sources.build().unwrap();
    let archive = sources.archive();
    assert_eq!(
        archive.json("oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"})
    );
    let index = archive.json("index.json");
    let manifest = &index["manifests"][0];
    assert_eq!(
        index,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": built.digest,
                "size": archive.blob(manifest).len(),
                "platform": {"architecture": "amd64", "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": NAME,
                    "org.opencontainers.image.ref.name": "1.2",
                },
            }],
        })
    );
    assert_eq!(built.name, NAME);
    assert_eq!(built.size, fs::metadata(sources.output()).unwrap().len());
}

#[test]
fn the_manifest_names_a_config_and_one_layer_and_nothing_else_is_there() {
    let sources = Sources::new(LEAST);
    sources.build().unwrap();
    let archive = sources.archive();
    let manifest = archive.manifest();
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    assert_eq!(
        manifest,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config["digest"],
                "size": archive.blob(config).len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer["digest"],
                "size": archive.blob(layer).len(),
            }],
        })
    );
    assert_eq!(archive.files.len(), 5, "{:?}", archive.files.keys());
}

#[test]
fn the_config_holds_what_the_containerfile_says() {
    let sources = full();
    sources.build().unwrap();
    let archive = sources.archive();
    assert_eq!(
        archive.config(),
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": "65532:65532",
                "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
                "Env": ["NAME=value", "PATH=/bin"],
                "Entrypoint": ["/usr/bin/app"],
                "Cmd": ["--listen", ":8080"],
                "WorkingDir": "/data/own",
                "Labels": {"a": "1", "b": "2", "c": "3", "d": "4"},
            },
            "rootfs": {"type": "layers", "diff_ids": [archive.manifest()["layers"][0]["digest"]]},
        })
    );
}

#[test]
fn the_config_of_the_least_holds_its_entrypoint_only() {
    let sources = Sources::new(LEAST);
    sources.build().unwrap();
    assert_eq!(
        sources.archive().config()["config"],
        json!({"Entrypoint": ["/app"]})
    );
}

#[test]
fn the_layer_holds_folders_before_files_in_order_with_their_modes() {
    let sources = full();
    sources.build().unwrap();
    let folder = |path: &str| Entry {
        path: path.to_owned(),
        kind: EntryType::Directory,
        mode: 0o755,
        content: Vec::new(),
    };
    let file = |path: &str, mode, content: &[u8]| Entry {
        path: path.to_owned(),
        kind: EntryType::Regular,
        mode,
        content: content.to_vec(),
    };
    assert_eq!(
        sources.archive().layer(),
        [
            folder("data"),
            folder("data/own"),
            folder("notes"),
            file("notes/public", 0o644, b"Some text\n"),
            file("notes/secret", 0o600, b"Some text\n"),
            folder("usr"),
            folder("usr/bin"),
            file("usr/bin/app", 0o755, &executable(X86_64, LOAD)),
        ]
    );
}

#[test]
fn a_file_larger_than_any_buffer_and_with_a_long_path_arrives_whole() {
    let path = "folder/".repeat(30) + "file";
    let sources = Sources::new(&format!("{LEAST}COPY large /{path}\n"));
    let content: Vec<u8> = (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect();
    sources.write("large", &content, 0o644);
    sources.build().unwrap();
    let layer = sources.archive().layer();
    let entry = layer.iter().find(|entry| entry.path == path).unwrap();
    assert!(
        entry.content == content,
        "{} bytes arrived",
        entry.content.len()
    );
}

#[test]
fn the_executable_says_the_architecture() {
    let sources = Sources::new(LEAST);
    sources.write("app", &executable(AARCH64, LOAD), 0o755);
    sources.build().unwrap();
    let archive = sources.archive();
    assert_eq!(archive.config()["architecture"], "arm64");
    assert_eq!(
        archive.json("index.json")["manifests"][0]["platform"]["architecture"],
        "arm64"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes_whoever_builds() {
    let first = full();
    let second = full();
    // Another umask, and another order of what has none.
    second.write("notes", b"Some text\n", 0o600);
    second.write("app", &executable(X86_64, LOAD), 0o700);
    let reordered = FULL.replace("b=2 a=1", "a=1 b=2");
    second.write("Containerfile", reordered.as_bytes(), 0o644);
    assert_eq!(first.build().unwrap(), second.build().unwrap());
    let bytes = |sources: &Sources| fs::read(sources.output()).unwrap();
    assert!(bytes(&first) == bytes(&second), "the archives differ");
}

#[test]
fn another_content_gives_another_digest() {
    let sources = full();
    let before = sources.build().unwrap();
    sources.write("notes", b"Some news\n", 0o664);
    assert_ne!(sources.build().unwrap().digest, before.digest);
}
