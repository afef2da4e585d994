//! Finds the addresses of a name as the machine is configured: by `/etc/hosts`, then by the name servers, search list and
//! options of `/etc/resolv.conf`.
//!
//! Not by the C library, whose resolver loads parts of itself when it is first used; a static binary that is alone in its
//! image has nothing to load. And not by a resolver of the usual kind: its caches, its transports and its tables for names
//! in all scripts are most of a megabyte of the three that an idle sidecar may take.
//!
//! Keeps nothing between two lookups, neither answers nor sockets nor what the files said.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use resolv_conf::Config;

use message::{Family, Question};

mod message;
mod server;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where name servers listen.
const PORT: u16 = 53;

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The text has not the form that it should.
    #[error("{0:?} is not host:port")]
    NotHostAndPort(String),
    /// The host can be no name.
    #[error("{0:?} is no name that a name server could know")]
    NotName(String),
    /// Nobody to ask.
    #[error("cannot read {RESOLV_CONF}: {0}")]
    Configuration(#[source] io::Error),
    /// The answer is that there are none.
    #[error("the name servers know no address of it")]
    Unknown,
    /// No answer.
    #[error("the name servers do not answer: {0}")]
    NoAnswer(#[source] io::Error),
}

/// Returns the host and the port of `host:port`, an IPv6 address without its brackets.
pub(crate) fn host_and_port(name: &str) -> Result<(&str, u16), LookupError> {
    let parts = name.rsplit_once(':').and_then(|(host, port)| {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        Some((bare.unwrap_or(host), port.parse().ok()?))
    });
    parts
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| LookupError::NotHostAndPort(name.to_owned()))
}

/// Returns every address of `host:port`, of both families. The host is a name or an address.
///
/// # Errors
///
/// Says why there is none. A name without addresses is an error too.
///
/// # Cancel safety
///
/// Dropping the future gives up the lookup.
pub async fn resolve(name: &str) -> Result<Vec<SocketAddr>, LookupError> {
    match name.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => lookup(name).await,
    }
}

/// Returns every address of `host:port`, of both families. The host is a name, not an address.
///
/// # Errors
///
/// Says why there is none. A name without addresses is an error too.
///
/// # Cancel safety
///
/// Dropping the future gives up the lookup.
pub(crate) async fn lookup(name: &str) -> Result<Vec<SocketAddr>, LookupError> {
    let (host, port) = host_and_port(name)?;
    let addresses = Machine::read().addresses(host).await?;
    let addresses = addresses.into_iter();
    Ok(addresses.map(|address| (address, port).into()).collect())
}

/// What this machine's files say about names.
#[derive(Debug)]
pub(crate) struct Machine {
    hosts: String,
    servers: io::Result<Config>,
    /// Where the servers listen.
    port: u16,
}

impl Machine {
    /// Reads the files. They are short and in memory, not worth a thread.
    fn read() -> Self {
        // A line that makes no sense is passed over, as everybody does.
        let parse = |text: Vec<u8>| Config::parse_with_errors(&text).0;
        Self {
            // An image may well be without the file.
            hosts: fs::read_to_string(HOSTS).unwrap_or_default(),
            servers: fs::read(RESOLV_CONF).map(parse),
            port: PORT,
        }
    }

    /// Returns every address of a host.
    pub(crate) async fn addresses(self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let listed = listed(&self.hosts, host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        // RFC 6761, section 6.3: no name server is asked about it.
        if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut config = self.servers.map_err(LookupError::Configuration)?;
        config.glibc_normalize();
        let mut failure = None;
        for name in candidates(host, &config) {
            let found = async |family| {
                let question = Question::new(&name, family, rand::random());
                let Some(question) = question else {
                    return Err(LookupError::NotName(name.clone()));
                };
                let answer = server::ask(&config, self.port, &question).await;
                answer.map_err(LookupError::NoAnswer)
            };
            let (four, six) = tokio::join!(found(Family::V4), found(Family::V6));
            let mut addresses = Vec::new();
            for found in [four, six] {
                match found {
                    Ok(found) => addresses.extend(found),
                    Err(error) => failure = Some(error),
                }
            }
            if !addresses.is_empty() {
                return Ok(addresses);
            }
        }
        Err(failure.unwrap_or(LookupError::Unknown))
    }
}

/// Returns the addresses that the text of a hosts file gives a host.
fn listed(hosts: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut addresses = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        if let Some(Ok(address)) = words.next().map(str::parse)
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Returns the whole names that a host may mean, in the order in which they are to be tried (resolv.conf(5), `ndots`).
fn candidates(host: &str, config: &Config) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let search = config.get_last_search_or_domain();
    let mut names: Vec<_> = search.map(|domain| format!("{host}.{domain}")).collect();
    let dots = host.bytes().filter(|byte| *byte == b'.').count();
    let comes_first = dots >= config.ndots as usize;
    let place = if comes_first { 0 } else { names.len() };
    names.insert(place, host.to_owned());
    names
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
