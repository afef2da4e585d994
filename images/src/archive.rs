//! Writes an image as a tar of an OCI image layout with one layer, named as containerd imports it.
//!
//! What is in the layer is decided elsewhere.

use std::{
    collections::HashMap,
    fs::{File, Permissions},
    io::{self, BufWriter, Read, Seek as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    str::FromStr as _,
};

use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, ConfigBuilder, Descriptor, ImageConfiguration,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use crate::{
    Built,
    containerfile::Containerfile,
    error::Error,
    layer::{self, Layer},
    name::Name,
};

/// What containerd names an imported image by.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The version of the layout that is written.
const LAYOUT_VERSION: &str = "1.0.0";

/// Everyone may read an archive, as any file that a build leaves.
const ARCHIVE_MODE: u32 = 0o644;

/// Writes the archive; `output` appears, or changes, only once it is complete.
pub(crate) fn write(
    name: &Name,
    containerfile: &Containerfile,
    layer: &Layer,
    architecture: Arch,
    output: &Path,
) -> Result<Built, Error> {
    let failed = || Error::file("write", output);
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A tar entry begins with its size and is named here by its digest, so the layer has to be complete first.
    let mut layer_file = tempfile::tempfile_in(folder).map_err(failed())?;
    let layer = write_layer(layer, &layer_file, output)?;
    layer_file.rewind().map_err(failed())?;

    let config = Document::new(
        MediaType::ImageConfig,
        &serde_json::to_value(configuration(containerfile, &architecture, &layer)?)?,
    )?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor.clone())
        .layers([layer.clone()])
        .build()?;
    let manifest = Document::new(MediaType::ImageManifest, &serde_json::to_value(manifest)?)?;
    let index = index(name, architecture, manifest.descriptor.clone())?;
    let layout = OciLayoutBuilder::default()
        .image_layout_version(LAYOUT_VERSION)
        .build()?;

    let archive = tempfile::Builder::new()
        .permissions(Permissions::from_mode(ARCHIVE_MODE))
        .tempfile_in(folder)
        .map_err(failed())?;
    let mut tar = tar::Builder::new(BufWriter::new(archive));
    append(&mut tar, "oci-layout", &serde_json::to_vec(&layout)?).map_err(failed())?;
    append(&mut tar, "index.json", &index).map_err(failed())?;
    for document in [&manifest, &config] {
        append(&mut tar, &blob_path(&document.descriptor), &document.text).map_err(failed())?;
    }
    append_stream(&mut tar, &blob_path(&layer), layer.size(), layer_file).map_err(failed())?;
    let archive = tar
        .into_inner()
        .and_then(|buffered| {
            buffered
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
        })
        .map_err(failed())?;
    let size = archive.as_file().metadata().map_err(failed())?.len();
    archive
        .persist(output)
        .map_err(|error| failed()(error.error))?;
    Ok(Built {
        name: name.full.clone(),
        digest: manifest.descriptor.digest().to_string(),
        size,
    })
}

/// Describes the layer by what was really written.
fn write_layer(layer: &Layer, file: &File, output: &Path) -> Result<Descriptor, Error> {
    let mut summed = Summed {
        inner: BufWriter::new(file),
        sum: Sha256::new(),
        size: 0,
    };
    layer.write(&mut summed, output)?;
    summed.flush().map_err(Error::file("write", output))?;
    describe(MediaType::ImageLayer, summed.size, summed.sum)
}

fn configuration(
    containerfile: &Containerfile,
    architecture: &Arch,
    layer: &Descriptor,
) -> Result<ImageConfiguration, Error> {
    let mut config = ConfigBuilder::default();
    if let Some(user) = &containerfile.user {
        config = config.user(user);
    }
    if let Some(entrypoint) = &containerfile.entrypoint {
        config = config.entrypoint(entrypoint.clone());
    }
    if let Some(command) = &containerfile.command {
        config = config.cmd(command.clone());
    }
    if let Some(folder) = &containerfile.working_folder {
        config = config.working_dir(folder);
    }
    if !containerfile.environment.is_empty() {
        let variables = containerfile.environment.iter();
        config = config.env(
            variables
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>(),
        );
    }
    if !containerfile.labels.is_empty() {
        config = config.labels(
            containerfile
                .labels
                .clone()
                .into_iter()
                .collect::<HashMap<_, _>>(),
        );
    }
    if !containerfile.ports.is_empty() {
        config = config.exposed_ports(containerfile.ports.iter().cloned().collect::<Vec<_>>());
    }
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids([layer.digest().to_string()])
        .build()?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture.clone())
        .os(Os::Linux)
        .config(config.build()?)
        .rootfs(rootfs)
        .build()?;
    Ok(configuration)
}

/// The one place that says the image's name.
fn index(name: &Name, architecture: Arch, mut manifest: Descriptor) -> Result<Vec<u8>, Error> {
    let platform = PlatformBuilder::default()
        .architecture(architecture)
        .os(Os::Linux)
        .build()?;
    manifest.set_platform(Some(platform));
    manifest.set_annotations(Some(HashMap::from([
        (ANNOTATION_CONTAINERD_NAME.to_owned(), name.full.clone()),
        (ANNOTATION_REF_NAME.to_owned(), name.tag.clone()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    Ok(serde_json::to_vec(&serde_json::to_value(index)?)?)
}

/// A blob that is small enough for memory.
struct Document {
    text: Vec<u8>,
    descriptor: Descriptor,
}

impl Document {
    /// Takes a [`serde_json::Value`] because its maps are sorted; those of `oci_spec` change their order with every run.
    fn new(media_type: MediaType, value: &serde_json::Value) -> Result<Self, Error> {
        let text = serde_json::to_vec(value)?;
        let descriptor = describe(
            media_type,
            text.len() as u64,
            Sha256::new_with_prefix(&text),
        )?;
        Ok(Self { text, descriptor })
    }
}

fn describe(media_type: MediaType, size: u64, sum: Sha256) -> Result<Descriptor, Error> {
    let digest = Sha256Digest::from_str(&format!("{:x}", sum.finalize()))?;
    Ok(Descriptor::new(media_type, size, digest))
}

fn blob_path(descriptor: &Descriptor) -> String {
    let digest = descriptor.digest();
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    append_stream(tar, path, content.len() as u64, content)
}

fn append_stream(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    tar.append_data(
        &mut layer::header(EntryType::Regular, ARCHIVE_MODE, size),
        path,
        content,
    )
}

/// Sums up what passes on its way to `inner`.
struct Summed<W> {
    inner: W,
    sum: Sha256,
    size: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.sum.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
