//! nginx, configured to forward as fast as it can.

use std::path::Path;

use tokio::process::Command;

use super::{Around, Mode, Place, wrapped};
use crate::context::Context;

/// Where Debian puts what forwards bytes.
const STREAMS: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether it can forward bytes that are no HTTP.
pub(super) fn has_streams() -> bool {
    Path::new(STREAMS).is_file()
}

pub(super) fn command(
    context: &Context,
    around: &Around,
    place: &Place<'_>,
) -> anyhow::Result<Command> {
    let (listen, upstream, folder) = (place.listen, place.upstream, place.folder.display());
    // It reads modules before all else.
    let module = if place.mode == Mode::Opaque {
        format!("load_module {STREAMS};\n")
    } else {
        String::new()
    };
    let forwarding = if place.mode == Mode::Opaque {
        format!("stream {{ server {{ listen {listen}; proxy_pass {upstream}; }} }}")
    } else {
        let http2 = if place.mode == Mode::Http2 {
            " http2"
        } else {
            ""
        };
        format!(
            "http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  upstream app {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen {listen}{http2};
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}"
        )
    };
    // One of the client and one of the backend each, and some.
    let connections = (2 * around.connections).max(4_000) + 200;
    let configuration = format!(
        "{module}daemon off; master_process off; worker_processes 1;
error_log stderr error; pid {folder}/pid;
events {{ worker_connections {connections}; }}
{forwarding}
"
    );
    let mut command = wrapped(around, context.program("nginx")?);
    command
        .arg("-c")
        .arg(place.write("nginx.conf", &configuration)?);
    command.arg("-e").arg("stderr");
    Ok(command)
}
