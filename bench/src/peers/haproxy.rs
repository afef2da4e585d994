//! haproxy, configured to forward as fast as it can.

use tokio::process::Command;

use super::{Around, Mode, Place, wrapped};
use crate::context::Context;

pub(super) fn command(
    context: &Context,
    around: &Around,
    place: &Place<'_>,
) -> anyhow::Result<Command> {
    let (listen, upstream) = (place.listen, place.upstream);
    let (mode, protocol) = match place.mode {
        Mode::Http1 => ("http", ""),
        Mode::Http2 => ("http", " proto h2"),
        Mode::Opaque => ("tcp", ""),
    };
    let reuse = if mode == "http" {
        "http-reuse always"
    } else {
        ""
    };
    let configuration = format!(
        "global
  nbthread 1
defaults
  mode {mode}
  {reuse}
  timeout client 1h
  timeout server 1h
  timeout connect 5s
frontend in
  bind {listen}{protocol}
  default_backend app
backend app
  server app {upstream}{protocol}
"
    );
    let mut command = wrapped(around, context.program("haproxy")?);
    command
        .arg("-db")
        .arg("-f")
        .arg(place.write("haproxy.cfg", &configuration)?);
    Ok(command)
}
