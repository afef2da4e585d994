//! A folder with a Containerfile and files to copy, and an archive unpacked into memory.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stillwake_images::{Built, Error, Image, build};
use tar::EntryType;

/// The `e_machine` numbers of the ELF specification.
pub(crate) const X86_64: u16 = 62;
pub(crate) const AARCH64: u16 = 183;
pub(crate) const RISCV: u16 = 243;

/// The segment types of the ELF specification.
pub(crate) const LOAD: u32 = 1;
pub(crate) const INTERPRETER: u32 = 3;

pub(crate) const NAME: &str = "docker.io/stillwake/app:1.2";

/// The least that is complete.
pub(crate) const LEAST: &str = "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n";

/// What an image is built from; removed when dropped.
pub(crate) struct Sources {
    folder: tempfile::TempDir,
}

impl Sources {
    /// With a static executable `app` for `x86_64`.
    pub(crate) fn new(containerfile: &str) -> Self {
        let sources = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        sources.write("Containerfile", containerfile.as_bytes(), 0o644);
        sources.write("app", &executable(X86_64, LOAD), 0o755);
        sources
    }

    pub(crate) fn write(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path("image.tar")
    }

    pub(crate) fn build(&self) -> Result<Built, Error> {
        let image = Image {
            containerfile: &self.path("Containerfile"),
            context: self.folder.path(),
            name: NAME,
        };
        build(&image, &self.output())
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::read(&self.output())
    }
}

/// An ELF file of 64 bits with one segment: as much of it as is looked at.
pub(crate) fn executable(machine: u16, segment: u32) -> Vec<u8> {
    const HEADER_SIZE: u16 = 64;
    const SEGMENT_SIZE: u16 = 56;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(u64::from(HEADER_SIZE).to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for number in [HEADER_SIZE, SEGMENT_SIZE, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(segment.to_le_bytes());
    file.resize(usize::from(HEADER_SIZE + SEGMENT_SIZE), 0);
    file
}

/// What is recorded of one entry of a tar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// The entries of a tar in their order; none may tell who made it, or when.
pub(crate) fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(tar);
    let entry = |mut entry: tar::Entry<'_, &[u8]>| {
        let header = entry.header().clone();
        let made_by = (
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
        );
        assert_eq!(made_by, (0, 0, 0));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        Entry {
            path: entry.path().unwrap().to_str().unwrap().to_owned(),
            kind: header.entry_type(),
            mode: header.mode().unwrap(),
            content,
        }
    };
    archive
        .entries()
        .unwrap()
        .map(|found| entry(found.unwrap()))
        .collect()
}

/// An archive in memory.
pub(crate) struct Archive {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    fn read(path: &Path) -> Self {
        let entries = entries(&fs::read(path).unwrap());
        let count = entries.len();
        let files: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (entry.path, entry.content))
            .collect();
        assert_eq!(files.len(), count, "an entry is there twice");
        Self { files }
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.files[path]).unwrap()
    }

    /// The content that a descriptor describes, which must be of its size and digest.
    pub(crate) fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let hexadecimal = digest.strip_prefix("sha256:").unwrap();
        let content = &self.files[&format!("blobs/sha256/{hexadecimal}")];
        assert_eq!(descriptor["size"], content.len());
        assert_eq!(hexadecimal, format!("{:x}", Sha256::digest(content)));
        content
    }

    fn json_blob(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    pub(crate) fn manifest(&self) -> Value {
        self.json_blob(&self.json("index.json")["manifests"][0])
    }

    pub(crate) fn config(&self) -> Value {
        self.json_blob(&self.manifest()["config"])
    }

    pub(crate) fn layer(&self) -> Vec<Entry> {
        entries(self.blob(&self.manifest()["layers"][0]))
    }
}
