//! The `stillwake-images` command: builds one image archive and says what it is. Everything it does is in the library.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use stillwake_images::{Built, Image, build};

/// Builds an OCI image archive from static binaries, without a container engine
#[derive(Debug, Parser)]
#[command(name = "stillwake-images", version)]
struct Arguments {
    /// The image's description: FROM scratch, and COPY of single files
    #[arg(long, value_name = "FILE")]
    containerfile: PathBuf,
    /// The folder that COPY takes files from
    #[arg(long, value_name = "DIR")]
    context: PathBuf,
    /// The image's full name: registry/path:tag
    #[arg(long)]
    name: String,
    /// Where to write the archive
    #[arg(long, value_name = "FILE.tar")]
    output: PathBuf,
}

#[expect(clippy::print_stdout, reason = "it's the command's result")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let image = Image {
        containerfile: &arguments.containerfile,
        context: &arguments.context,
        name: &arguments.name,
    };
    match build(&image, &arguments.output) {
        Ok(Built { name, digest, size }) => {
            println!("name    {name}\ndigest  {digest}\nsize    {size} bytes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stillwake-images: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
