//! The files of an image: which go where, and the tar that holds them.
//!
//! Nothing of the machine that builds gets in: times are 0, owners root, entries sorted, and modes, unless the description
//! gives one, one of two.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tar::{EntryType, Header};

use crate::{
    containerfile::{Containerfile, Content, Item, Mistake},
    error::Error,
};

/// Folders, and files that may be run.
const EXECUTABLE: u32 = 0o755;
/// Files that may not.
const READABLE: u32 = 0o644;

/// The files of an image.
#[derive(Debug)]
pub(crate) struct Layer {
    /// By their path in the image, without the leading slash. Sorted, a folder stands before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
    /// Where the executable that the image runs comes from.
    pub(crate) program: PathBuf,
}

#[derive(Debug)]
enum Entry {
    Folder,
    File { source: PathBuf, mode: u32 },
}

/// Finds what `containerfile` copies in `context`.
pub(crate) fn plan(containerfile: &Containerfile, context: &Path) -> Result<Layer, Mistake> {
    let mut entries = BTreeMap::new();
    for item in &containerfile.items {
        let entry = match &item.content {
            Content::Folder => Entry::Folder,
            Content::File { source, mode } => {
                let source = context.join(source);
                let metadata = regular_file(&source)
                    .map_err(|problem| containerfile.mistake(item.line, problem))?;
                let mode = mode.unwrap_or_else(|| default_mode(&metadata));
                Entry::File { source, mode }
            }
        };
        place(&mut entries, item, entry)
            .map_err(|problem| containerfile.mistake(item.line, problem))?;
    }
    let program = program(containerfile, &entries)?;
    Ok(Layer { entries, program })
}

fn regular_file(source: &Path) -> Result<Metadata, String> {
    let metadata = fs::metadata(source).map_err(|error| {
        format!(
            "cannot copy {}: {error}; sources are named from the context folder",
            source.display()
        )
    })?;
    if !metadata.is_file() {
        return Err(format!(
            "{} is not a regular file; copy files one by one",
            source.display()
        ));
    }
    Ok(metadata)
}

/// Leaves out what the builder's umask decides.
fn default_mode(metadata: &Metadata) -> u32 {
    if is_executable(metadata.permissions().mode()) {
        EXECUTABLE
    } else {
        READABLE
    }
}

fn is_executable(mode: u32) -> bool {
    mode & 0o111 != 0
}

/// Puts `entry` and the folders above it where `item` says.
fn place(entries: &mut BTreeMap<PathBuf, Entry>, item: &Item, entry: Entry) -> Result<(), String> {
    let path = &item.destination;
    for parent in path.ancestors().skip(1) {
        place_folder(entries, parent)?;
    }
    match entry {
        Entry::Folder => place_folder(entries, path),
        Entry::File { .. } => match entries.insert(path.clone(), entry) {
            None => Ok(()),
            Some(Entry::Folder) => Err(format!(
                "/{0} is a folder of the image already; to copy into it, write /{0}/",
                path.display()
            )),
            Some(Entry::File { .. }) => Err(format!(
                "/{} is copied twice; leave one out",
                path.display()
            )),
        },
    }
}

fn place_folder(entries: &mut BTreeMap<PathBuf, Entry>, path: &Path) -> Result<(), String> {
    // The root is there without being said.
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    match entries.entry(path.to_owned()).or_insert(Entry::Folder) {
        Entry::Folder => Ok(()),
        Entry::File { .. } => Err(format!(
            "/{} is a file of the image already, so it cannot be a folder; choose another path",
            path.display()
        )),
    }
}

/// Where the executable comes from, if it may be run.
fn program(
    containerfile: &Containerfile,
    entries: &BTreeMap<PathBuf, Entry>,
) -> Result<PathBuf, Mistake> {
    let program = &containerfile.program;
    let problem = match entries.get(&program.path) {
        Some(Entry::File { source, mode }) if is_executable(*mode) => return Ok(source.clone()),
        Some(Entry::File { source, .. }) => format!(
            "/{} may not be executed; write COPY --chmod=0755, or make {} executable",
            program.path.display(),
            source.display()
        ),
        Some(Entry::Folder) | None => format!(
            "the image runs /{0}, but no COPY puts a file there; write COPY FILE /{0}",
            program.path.display()
        ),
    };
    Err(containerfile.mistake(program.line, problem))
}

impl Layer {
    /// Writes the layer's tar, file by file.
    pub(crate) fn write(&self, output: impl Write, output_path: &Path) -> Result<(), Error> {
        let mut tar = tar::Builder::new(output);
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder => tar
                    .append_data(
                        &mut header(EntryType::Directory, EXECUTABLE, 0),
                        path,
                        io::empty(),
                    )
                    .map_err(Error::file("write", output_path))?,
                Entry::File { source, mode } => {
                    append_file(&mut tar, path, source, *mode)
                        .map_err(Error::file("copy", source))?;
                }
            }
        }
        tar.finish().map_err(Error::file("write", output_path))
    }
}

fn append_file(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    source: &Path,
    mode: u32,
) -> io::Result<()> {
    let file = File::open(source)?;
    let size = file.metadata()?.len();
    let mut content = file.take(size);
    tar.append_data(
        &mut header(EntryType::Regular, mode, size),
        path,
        &mut content,
    )?;
    if content.limit() != 0 {
        return Err(io::Error::other(
            "it became shorter while it was copied; build it again when nothing writes to it",
        ));
    }
    Ok(())
}

/// The same for everybody who builds.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
