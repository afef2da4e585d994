//! Parsers of single values. Each error completes "VARIABLE is …, …".

use std::{fmt::Display, net::SocketAddr, str::FromStr, time::Duration};

use stillwake_proto::relay::Preamble;
use stillwake_runtime::{logging::Format, tls::Trust};
use tracing_subscriber::filter::Targets;

use super::{PortPair, ReadinessCheck};

/// Parses what says by itself what is wrong.
pub(super) fn standard<T>(text: &str) -> Result<T, String>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Parses each part of a comma-separated list; empty parts are skipped.
pub(super) fn list<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| parse(part).map_err(|why| format!("where {part:?} is wrong: {why}")))
        .collect()
}

/// Parses pairs of ports, none of which may lead the sidecar to itself.
pub(crate) fn ports(text: &str) -> Result<Vec<PortPair>, String> {
    let pairs = list(text, port_pair)?;
    if pairs.is_empty() {
        return Err("which names no port".to_owned());
    }
    for (index, PortPair { listen, .. }) in pairs.iter().enumerate() {
        if *listen == 0 {
            continue;
        }
        if pairs.iter().any(|other| other.app == *listen) {
            return Err(format!(
                "where {listen} is both a listen port and an app port"
            ));
        }
        if pairs[..index].iter().any(|other| other.listen == *listen) {
            return Err(format!("where the listen port {listen} occurs twice"));
        }
    }
    Ok(pairs)
}

fn port_pair(text: &str) -> Result<PortPair, String> {
    let (listen, app) = text.split_once(':').ok_or("there is no colon")?;
    Ok(PortPair {
        listen: standard(listen)?,
        app: port(app)?,
    })
}

fn port(text: &str) -> Result<u16, String> {
    match standard(text)? {
        0 => Err("port 0 is nowhere".to_owned()),
        port => Ok(port),
    }
}

/// Checks that there is a host and a port; whether the host exists is found out later, again and again.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        None => Err("there is no port".to_owned()),
        Some(("", _)) => Err("there is no host".to_owned()),
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            Err("an IPv6 address goes in brackets".to_owned())
        }
        Some((_, number)) => port(number).map(|_| text.to_owned()),
    }
}

/// Takes what can be named to the activator.
pub(super) fn uid(text: &str) -> Result<String, String> {
    let nowhere = SocketAddr::from(([0; 4], 0));
    match Preamble::new(nowhere, nowhere, text) {
        Ok(preamble) => Ok(preamble.pod_uid().to_owned()),
        Err(error) => Err(format!("where {error}")),
    }
}

pub(super) fn trust(text: &str) -> Result<Trust, String> {
    Trust::from_pem(text).map_err(|error| format!("where {error}"))
}

/// Takes what fits into the address of a Unix socket behind the byte that makes it an abstract one.
pub(super) fn socket_name(text: &str) -> Result<String, String> {
    if text.len() > 107 {
        return Err(format!("which has {} bytes", text.len()));
    }
    Ok(text.to_owned())
}

pub(super) fn readiness(text: &str) -> Result<ReadinessCheck, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(ReadinessCheck::None),
        Some(("tcp", number)) => port(number).map(|port| ReadinessCheck::Tcp { port }),
        Some(("http", target)) => {
            let (number, path) = target.split_once('/').unwrap_or((target, ""));
            if let Some(character) = path.chars().find(|c| !c.is_ascii_graphic()) {
                return Err(format!("where {character:?} has no place in a path"));
            }
            Ok(ReadinessCheck::Http {
                port: port(number)?,
                path: format!("/{path}"),
            })
        }
        _ => Err("which is no kind of check".to_owned()),
    }
}

pub(super) fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("there is no leading /".to_owned())
    }
}

/// Parses a whole number with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("which does not begin with a number".to_owned());
    }
    let number: u64 = standard(number)?;
    let in_seconds = |seconds| number.checked_mul(seconds).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => in_seconds(1),
        "m" => in_seconds(60),
        "h" => in_seconds(3600),
        "" => return Err("which has no unit".to_owned()),
        _ => return Err(format!("where {unit:?} is no unit")),
    }
    .ok_or_else(|| "which is too long".to_owned())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    standard::<Targets>(text).map(|_| text.to_owned())
}

pub(super) fn log_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("which is no format".to_owned()),
    }
}
