//! How large the programs are on disk, and the sidecar's image.

use std::fs;

use futures_util::FutureExt as _;

use crate::{
    context::Context,
    part::Part,
    peers::{PROXIES, Proxy},
    row::{Row, Unit},
    statistics::Summary,
};

pub(super) const PART: Part = Part {
    name: "sidecar-size",
    measures: "The program's file, and the sidecar's image as an OCI archive. nginx and haproxy have shared libraries besides.",
    run: |context| async { run(context) }.boxed_local(),
};

fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for proxy in PROXIES {
        let name = proxy.as_ref();
        rows.push(match proxy.program(context) {
            Ok(program) => Row::new(
                "",
                name,
                "program",
                Unit::Bytes,
                Summary::exact(fs::metadata(program)?.len() as f64),
            ),
            Err(why) => Row::left_out("", name, "program", why),
        });
    }
    let archive = format!("images/stillwake-sidecar-{}.tar", env!("CARGO_PKG_VERSION"));
    let sidecar = Proxy::Sidecar.as_ref();
    rows.push(match fs::metadata(context.target.join(archive)) {
        Ok(archive) => Row::new(
            "",
            sidecar,
            "image",
            Unit::Bytes,
            Summary::exact(archive.len() as f64),
        ),
        Err(_) => Row::left_out(
            "",
            sidecar,
            "image",
            "`make sidecar-image` has not built it",
        ),
    });
    Ok(rows)
}
