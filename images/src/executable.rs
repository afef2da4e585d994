//! Reads from an executable's ELF header whether, and on which architecture, it runs in an image that has nothing else.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use elf::{ElfStream, abi, endian::AnyEndian};
use oci_spec::image::Arch;

/// An executable cannot run in an image from scratch.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be opened.
    #[error("cannot open {}", path.display())]
    Unreadable {
        /// The executable.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no ELF file.
    #[error(
        "{} is not an ELF executable ({problem}); an image from scratch has no shell or interpreter, so it must run a \
         program compiled for Linux", path.display()
    )]
    NotElf {
        /// The executable.
        path: PathBuf,
        /// What the reader found.
        problem: elf::ParseError,
    },
    /// It needs a loader and libraries.
    #[error(
        "{} is linked dynamically, and an image from scratch has no loader and no libraries; build it static: Rust with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target, Go with CGO_ENABLED=0, C with -static",
        path.display()
    )]
    Dynamic {
        /// The executable.
        path: PathBuf,
    },
    /// It is for a machine that images are not made for.
    #[error(
        "{} is built for ELF machine {machine}; supported are {} (amd64) and {} (arm64)",
        path.display(), abi::EM_X86_64, abi::EM_AARCH64
    )]
    Machine {
        /// The executable.
        path: PathBuf,
        /// Its `e_machine`.
        machine: u16,
    },
}

/// The architecture that the static executable at `path` runs on. Reads only its headers.
pub(crate) fn architecture(path: &Path) -> Result<Arch, Unfit> {
    let owned = || path.to_owned();
    let file = File::open(path).map_err(|source| Unfit::Unreadable {
        path: owned(),
        source,
    })?;
    let elf = ElfStream::<AnyEndian, _>::open_stream(file).map_err(|problem| Unfit::NotElf {
        path: owned(),
        problem,
    })?;
    if elf
        .segments()
        .iter()
        .any(|segment| segment.p_type == abi::PT_INTERP)
    {
        return Err(Unfit::Dynamic { path: owned() });
    }
    match elf.ehdr.e_machine {
        abi::EM_X86_64 => Ok(Arch::Amd64),
        abi::EM_AARCH64 => Ok(Arch::ARM64),
        machine => Err(Unfit::Machine {
            path: owned(),
            machine,
        }),
    }
}
