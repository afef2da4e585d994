//! What a request takes that the activator forwards to a ready endpoint, beside proxies on the same work.
//!
//! Every request comes on a new connection, as the activator gives connections back once something is ready.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::FutureExt as _;

use super::{ACTIVATOR, clients};
use crate::{
    backend::Backend,
    certificates::Certificate,
    context::Context,
    part::Part,
    peers::{Around, CONTROL, Mode, Proxy, Running},
    process,
    roles::{
        Role,
        activator::{self, Held, Question},
        child::Playing,
    },
    row::{Row, Unit},
    statistics::Blocks,
};

/// Clients at once.
const CLIENTS: usize = 32;

const CPU: &str = "CPU per request";

const CASE: &str = "h1, a new connection each, 32 clients, 1 KB";

/// The HTTP Add-on's part that forwards.
const INTERCEPTOR: &str = "HTTP Add-on interceptor";

pub(super) const PART: Part = Part {
    name: "activator-forward",
    measures: "CPU time of a request that is forwarded to a ready endpoint, beside nginx and a plain Go proxy.",
    run: |context| run(context).boxed_local(),
};

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let backend = Backend::start(&Around::default()).await?;
    let (_folder, certificate) = Certificate::make()?;
    let settings = activator::Settings {
        workloads: 1,
        aggregator: None,
        certificate,
        max_held: 1_000,
    };
    let (mut activator, ports) = Playing::start::<Vec<u16>>(Role::Activator, &settings).await?;
    activator
        .ask::<Held>(&Question::Ready(backend.http))
        .await?;
    let mut rows = Vec::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let mut subjects = vec![(ACTIVATOR.to_owned(), address, activator.pid()?)];
    let mut peers = Vec::new();
    for proxy in [Proxy::Nginx, Proxy::Go] {
        let name = proxy.as_ref();
        if let Some(why) = proxy.is_missing(context, Mode::Http1) {
            rows.push(Row::left_out(CASE, name, CPU, why));
            continue;
        }
        let running =
            Running::start(proxy, context, &backend, Mode::Http1, &Around::default()).await?;
        if let Some(pid) = running.pid() {
            subjects.push((name.to_owned(), running.address, pid));
        }
        peers.push(running);
    }
    let names: Vec<&str> = subjects.iter().map(|(name, ..)| name.as_str()).collect();
    let blocks = Blocks::measure(&names, context.blocks(), async |name| {
        let subject = subjects.iter().find(|(subject, ..)| subject == name);
        let (_, address, pid) = subject.ok_or_else(|| anyhow::anyhow!("no {name}"))?;
        let before = process::cpu_time(*pid)?;
        let answered = clients::load(*address, CLIENTS, context.slice()).await?;
        let used = process::cpu_time(*pid)?.saturating_sub(before);
        Ok(vec![(CPU, used.as_secs_f64() / answered as f64)])
    })
    .await?;
    for name in &names {
        let mut row = Row::new(CASE, name, CPU, Unit::Seconds, blocks.summary(name, CPU)?);
        if *name != CONTROL
            && let Ok(ratio) = blocks.ratio(name, CONTROL, CPU)
        {
            row = row.over(CONTROL, ratio);
        }
        if *name == ACTIVATOR {
            row = row.noting(
                "with a new connection to the backend for each request, which the others keep, and two threads; in the \
                 activator, forwarding lasts for a moment after a wake",
            );
        }
        rows.push(row);
    }
    rows.push(Row::left_out(
        CASE,
        INTERCEPTOR,
        CPU,
        "it starts only beside a Kubernetes API server with its own resources; `make bench-cold` measures it beside the \
         activator, in a cluster. It is built on the Go proxy's package",
    ));
    Ok(rows)
}
