//! The sidecar as it ships, with the environment that the webhook gives it in a pod.

use stillwake_e2e::sidecar::free_address;
use tokio::process::Command;

use super::{Around, Place, wrapped};
use crate::{aggregators::Aggregators, context::Context};

pub(super) fn command(
    context: &Context,
    around: &Around,
    place: &Place<'_>,
    aggregators: Option<&Aggregators>,
) -> anyhow::Result<Command> {
    let mut command = wrapped(around, context.program("stillwake-sidecar")?);
    let mut say = |name: &str, value: &str| {
        command.env(format!("STILLWAKE_SIDECAR_{name}"), value);
    };
    say(
        "PORTS",
        &format!("{}:{}", place.listen.port(), place.upstream.port()),
    );
    say("ADDRESS", &place.listen.ip().to_string());
    say("ADMIN", &free_address()?.to_string());
    say(
        "CONTROL",
        &format!("stillwake-bench-{}", place.listen.port()),
    );
    say("DRAIN_GRACE", "1s");
    if let Some(aggregators) = aggregators {
        let token = place.write("token", &"token".repeat(200))?;
        say("AGGREGATORS", &aggregators.names);
        say("AGGREGATOR_CA", &aggregators.certificate);
        say("TOKEN_FILE", &token.display().to_string());
        say("POD_NAMESPACE", "bench");
        say("POD_NAME", "bench");
        say("POD_UID", "bench");
    }
    Ok(command)
}
