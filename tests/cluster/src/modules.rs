//! Builds what a cluster is made of from Go modules, once per content, into the cache.
//!
//! Every module's folder pins what it builds by go.mod and go.sum; a build is found again by the hash of the folder.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::{files, layout::Layout, waiting::Clock};

/// How often a build that takes long says that it goes on.
const REMINDER: Duration = Duration::from_secs(30);

/// One module, built.
#[derive(Clone, Debug)]
pub(crate) struct BuiltModule {
    /// Of the Go module that the programs come from, without the `v`.
    pub(crate) version: String,
    folder: PathBuf,
}

impl BuiltModule {
    /// Where the programs are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of the programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A module and what is built of it.
pub(crate) struct Module {
    /// Its folder.
    pub(crate) name: String,
    /// The Go module whose version counts.
    pub(crate) source: &'static str,
    /// Name of the program and its package.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// Variables that get the version at link time, by form.
    pub(crate) stamps: &'static [(&'static str, Stamp)],
    /// Other names to call the first program by.
    pub(crate) links: &'static [&'static str],
}

/// A form of a version.
#[derive(Clone, Copy)]
pub(crate) enum Stamp {
    Full,
    Major,
    Minor,
}

/// Builds a module, whose sources are in a folder of its name in `modules`, unless it is there; tells what it does.
pub(crate) fn build(
    layout: &Layout,
    modules: &Path,
    module: &Module,
) -> anyhow::Result<BuiltModule> {
    let source = modules.join(&module.name);
    let folder = layout
        .built()
        .join(format!("{}-{}", module.name, content_hash(&source)?));
    let version_file = folder.join("version");
    if let Some(version) = files::read_if_there(&version_file)? {
        return Ok(BuiltModule { version, folder });
    }
    files::make_folder(&folder)?;
    let _lock = lock(&folder)?;
    // Meanwhile somebody else may have built it.
    if let Some(version) = files::read_if_there(&version_file)? {
        return Ok(BuiltModule { version, folder });
    }
    let version = go_list(&source, module.source, "{{.Version}}")?;
    let version = version.trim_start_matches('v').to_owned();
    for (program, package) in module.programs {
        compile(
            &source,
            package,
            &folder.join(program),
            &flags(module, &version),
        )?;
    }
    for link in module.links {
        let link = folder.join(link);
        // Left by a build that was cut off.
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(module.programs[0].0, &link)
            .with_context(|| format!("linking {}", link.display()))?;
    }
    // Last: it says that the folder is complete.
    files::write(&version_file, &version)?;
    remove_older(&layout.built(), &module.name, &folder)?;
    Ok(BuiltModule { version, folder })
}

/// Waits until nobody else builds in the folder, and keeps others out of it until the file is dropped.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

fn flags(module: &Module, version: &str) -> String {
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    let mut flags = "-s -w".to_owned();
    for (variable, stamp) in module.stamps {
        let value = match stamp {
            Stamp::Full => format!("v{version}"),
            Stamp::Major => major.to_owned(),
            Stamp::Minor => minor.to_owned(),
        };
        flags.extend([" -X ", variable, "=", &value]);
    }
    flags
}

fn compile(source: &Path, package: &str, output: &Path, flags: &str) -> anyhow::Result<()> {
    let name = format!(
        "{}/{}",
        source.file_name().unwrap_or_default().to_string_lossy(),
        output.file_name().unwrap_or_default().to_string_lossy()
    );
    eprintln!("Building {name}");
    let start = Clock::now();
    let mut go = Command::new("go")
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            flags,
            "-o",
        ])
        .arg(output)
        .arg(package)
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .spawn()
        .context("running go")?;
    let mut reminder = start + REMINDER;
    let status = loop {
        if let Some(status) = go.try_wait()? {
            break status;
        }
        if Clock::now() >= reminder {
            eprintln!("  still building {name} ({} s)", start.elapsed().as_secs());
            reminder += REMINDER;
        }
        thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        bail!(
            "go build of {package} in {} failed: {status}",
            source.display()
        );
    }
    eprintln!("  built {name} in {} s", start.elapsed().as_secs());
    Ok(())
}

/// The folder in which Go keeps the sources of a module.
pub(crate) fn source_folder(module: &Path, source: &str) -> anyhow::Result<PathBuf> {
    let folder = go_list(module, source, "{{.Dir}}")?;
    ensure!(
        !folder.is_empty(),
        "go knows no sources of {source} in {}",
        module.display()
    );
    Ok(PathBuf::from(folder))
}

fn go_list(module: &Path, source: &str, format: &str) -> anyhow::Result<String> {
    // Lists nothing of a module that isn't downloaded, and says so only by an empty folder.
    let downloaded = Command::new("go")
        .args(["mod", "download"])
        .current_dir(module)
        .status()
        .context("running go")?;
    ensure!(
        downloaded.success(),
        "go mod download in {} failed",
        module.display()
    );
    let listed = Command::new("go")
        .args(["list", "-m", "-f", format, source])
        .current_dir(module)
        .output()
        .context("running go")?;
    ensure!(
        listed.status.success(),
        "go list -m {source} in {}: {}",
        module.display(),
        String::from_utf8_lossy(&listed.stderr).trim()
    );
    Ok(String::from_utf8(listed.stdout)?.trim().to_owned())
}

/// Names what is made from a folder by the files in it.
pub(crate) fn content_hash(folder: &Path) -> anyhow::Result<String> {
    let mut paths = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(&content);
    }
    let hash = hash.finalize();
    Ok(format!("{hash:x}").split_off(hash.len() * 2 - 12))
}

/// What was built of a module's earlier content.
fn remove_older(built: &Path, module: &str, keep: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(built).with_context(|| format!("reading {}", built.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path != keep
            && name
                .rsplit_once('-')
                .is_some_and(|(name, _)| name == module)
        {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_module_gets_another_folder_and_an_unchanged_one_the_same() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), "module a").unwrap();
        let first = content_hash(folder.path()).unwrap();
        assert_eq!(content_hash(folder.path()).unwrap(), first);
        fs::write(folder.path().join("go.mod"), "module b").unwrap();
        assert_ne!(content_hash(folder.path()).unwrap(), first);
    }

    #[test]
    fn only_older_builds_of_the_same_module_are_removed() {
        let built = tempfile::tempdir().unwrap();
        for name in ["keda-2.21-aaaa", "keda-2.21-bbbb", "keda-2.18-cccc"] {
            fs::create_dir(built.path().join(name)).unwrap();
        }
        remove_older(
            built.path(),
            "keda-2.21",
            &built.path().join("keda-2.21-bbbb"),
        )
        .unwrap();
        let mut left = fs::read_dir(built.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        left.sort();
        assert_eq!(left, ["keda-2.18-cccc", "keda-2.21-bbbb"]);
    }
}
