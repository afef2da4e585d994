//! The sidecar's configuration: environment variables, read once into a typed [`Config`].
//!
//! [`VARIABLES`] is the one list of them; the parser, the error messages and the reference page use it.

use std::{ffi::OsString, fmt, net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration};

use stillwake_runtime::{logging::Format, tls::Trust};

mod parse;
mod variables;

pub(crate) use parse::ports;
pub(crate) use variables::CONTROL;
use variables::{
    ACTIVATOR, ADDRESS, ADMIN, AGGREGATOR_CA, AGGREGATORS, DRAIN_GRACE, IDLE_WINDOW, IGNORE_PATHS,
    IGNORE_USER_AGENTS, LINGER, LOG, LOG_FORMAT, POD_ADDRESS, POD_NAME, POD_NAMESPACE, POD_UID,
    PORTS, READINESS, STOP_DELAY, TOKEN_FILE,
};
pub use variables::{VARIABLES, Variable};

/// One port of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPair {
    /// Where the sidecar listens; 0 for any free port.
    pub listen: u16,
    /// Where the app listens; never 0.
    pub app: u16,
}

/// How to find out that the app takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadinessCheck {
    /// It accepts a connection.
    Tcp {
        /// Port of the app.
        port: u16,
    },
    /// It answers a GET with a status from 200 to 399.
    Http {
        /// Port of the app.
        port: u16,
        /// Path and query, with the leading slash.
        path: String,
    },
    /// Not at all.
    None,
}

/// Who reports; empty where nobody is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Where clients reach the pod.
    pub address: Option<IpAddr>,
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// At least one; listen ports other than 0 differ from each other and from every app port.
    pub ports: Vec<PortPair>,
    /// Where to listen; `None` is on all addresses.
    pub address: Option<IpAddr>,
    /// `host:port` of the aggregators; may be empty.
    pub aggregators: Vec<String>,
    /// Authorities of the aggregators; `None` is plaintext.
    pub trust: Option<Trust>,
    /// Who reports.
    pub pod: PodIdentity,
    /// How to find out that the app takes requests.
    pub readiness: ReadinessCheck,
    /// Token that is sent to the aggregators.
    pub token_file: Option<PathBuf>,
    /// Where the admin pages are served.
    pub admin: Option<SocketAddr>,
    /// Name of the control socket.
    pub control: Option<String>,
    /// Beginnings of paths that are not counted.
    pub ignore_paths: Vec<String>,
    /// Beginnings of user agents that are not counted.
    pub ignore_user_agents: Vec<String>,
    /// How long an opaque connection counts after bytes moved on it.
    pub idle_window: Duration,
    /// How long a drain may take.
    pub drain_grace: Duration,
    /// `host:port` of who takes connections that the app does not take any more.
    pub activator: Option<String>,
    /// How long connections are accepted after the drain began, with an activator.
    pub linger: Duration,
    /// How long after the drain began the app is told to stop.
    pub stop_delay: Option<Duration>,
    /// What is logged.
    pub log_filter: String,
    /// How a log line looks.
    pub log_format: Format,
}

impl Config {
    /// Reads variables from `lookup`; an empty value is the same as none.
    ///
    /// # Errors
    ///
    /// Names every variable that cannot be used.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let ports = reader.required(&PORTS, "", parse::ports);
        let address = reader.optional(&ADDRESS, parse::standard);
        let aggregators = reader.list(&AGGREGATORS, parse::host_and_port);
        let trust = reader.optional(&AGGREGATOR_CA, parse::trust);
        let reports = reader.is_set(&AGGREGATORS);
        let pod = reader.pod(address, reports);
        let first_port = ports
            .as_ref()
            .and_then(|ports| ports.first())
            .map(|pair| pair.app);
        let readiness = reader
            .optional(&READINESS, parse::readiness)
            .or(first_port.map(|port| ReadinessCheck::Tcp { port }));
        let token_file = reader.optional(&TOKEN_FILE, parse::standard);
        let admin = reader.optional(&ADMIN, parse::standard);
        let control = reader.optional(&CONTROL, parse::socket_name);
        let ignore_paths = reader.list(&IGNORE_PATHS, parse::path);
        let ignore_user_agents = reader.list(&IGNORE_USER_AGENTS, parse::standard);
        let idle_window = reader.optional(&IDLE_WINDOW, parse::duration);
        let drain_grace = reader.optional(&DRAIN_GRACE, parse::duration);
        let activator = reader.optional(&ACTIVATOR, parse::host_and_port);
        let linger = reader.optional(&LINGER, parse::duration);
        let stop_delay = reader.optional(&STOP_DELAY, parse::duration);
        let log_filter = reader.optional(&LOG, parse::log_filter);
        let log_format = reader.optional(&LOG_FORMAT, parse::log_format);

        let problems = reader.problems;
        // What has no value by now has been complained about, or its default would be wrong, which a test rules out.
        let complete = || {
            Some(Self {
                ports: ports?,
                address,
                aggregators,
                trust,
                pod,
                readiness: readiness?,
                token_file,
                admin,
                control,
                ignore_paths,
                ignore_user_agents,
                idle_window: idle_window?,
                drain_grace: drain_grace?,
                activator,
                linger: linger?,
                stop_delay,
                log_filter: log_filter?,
                log_format: log_format?,
            })
        };
        match complete() {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError(problems)),
        }
    }

    /// Reads the name of the control socket alone, for who wants to reach the sidecar that listens on it.
    ///
    /// # Errors
    ///
    /// Says why there is none.
    pub fn control(lookup: impl Fn(&str) -> Option<OsString>) -> Result<String, ConfigError> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let why = "so no sidecar can be reached";
        let name = reader.required(&CONTROL, why, parse::socket_name);
        name.ok_or(ConfigError(reader.problems))
    }

    /// Returns where the app is reached without the relay: at the address that clients dial, so that an app which is
    /// bound to the loopback interface alone does not look reachable.
    pub fn app_address(&self) -> IpAddr {
        self.pod
            .address
            .or(self.address.filter(|address| !address.is_unspecified()))
            .unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}

/// Every variable that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct ConfigError(Vec<Problem>);

/// One variable that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    variable: &'static Variable,
    /// What it is; `None` if it is not set but required.
    got: Option<String>,
    /// What more there is to say; may be empty.
    why: String,
}

impl fmt::Display for ConfigError {
    /// Writes one line per variable.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration in the environment cannot be used:")?;
        for Problem { variable, got, why } in &self.0 {
            write!(formatter, "\n  {} ", variable.name)?;
            match got {
                // A bundle of certificates would bury what is wrong with it, and a key has no place in a log.
                Some(got) => match got.split_once('\n') {
                    Some((first, _)) => write!(formatter, "begins with {first:?}")?,
                    None => write!(formatter, "is {got:?}")?,
                },
                None => formatter.write_str("is not set")?,
            }
            if !why.is_empty() {
                write!(formatter, ", {why}")?;
            }
            write!(formatter, "; it takes {}", variable.takes)?;
        }
        Ok(())
    }
}

/// Reads variables and remembers what was wrong with them.
struct Reader<L> {
    lookup: L,
    problems: Vec<Problem>,
}

impl<L: Fn(&str) -> Option<OsString>> Reader<L> {
    fn is_set(&self, variable: &Variable) -> bool {
        (self.lookup)(variable.name).is_some_and(|value| !value.is_empty())
    }

    /// Returns the text of a variable or its default.
    fn text(&mut self, variable: &'static Variable) -> Option<String> {
        match (self.lookup)(variable.name).filter(|value| !value.is_empty()) {
            None => variable.default.map(str::to_owned),
            Some(value) => match value.into_string() {
                Ok(text) => Some(text),
                Err(value) => {
                    let got = value.to_string_lossy().into_owned();
                    self.problem(variable, Some(got), "which is not UTF-8".to_owned());
                    None
                }
            },
        }
    }

    /// Returns the value of a variable, `None` if it has none or cannot be parsed.
    fn optional<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(variable)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(variable, Some(text), why);
                None
            }
        }
    }

    /// As `optional`, and complains with `why` if the variable is not set.
    fn required<T>(
        &mut self,
        variable: &'static Variable,
        why: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.is_set(variable) {
            self.problem(variable, None, why.to_owned());
            return None;
        }
        self.optional(variable, parse)
    }

    /// Returns the values of a comma-separated variable.
    fn list<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.optional(variable, |text| parse::list(text, &parse))
            .unwrap_or_default()
    }

    /// Reads who reports, which must be known if there is someone to report to.
    fn pod(&mut self, listening: Option<IpAddr>, reports: bool) -> PodIdentity {
        let hands_over = self.is_set(&ACTIVATOR);
        let mut name = |variable, needs: Option<&Variable>, parse: fn(&str) -> _| {
            let name = match needs {
                Some(needs) => {
                    let why = format!("which {} needs", needs.name);
                    self.required(variable, &why, parse)
                }
                None => self.optional(variable, parse),
            };
            name.unwrap_or_default()
        };
        let reporting = reports.then_some(&AGGREGATORS);
        let namespace = name(&POD_NAMESPACE, reporting, parse::standard);
        let pod = name(&POD_NAME, reporting, parse::standard);
        let needs_uid = reporting.or(hands_over.then_some(&ACTIVATOR));
        let uid = name(&POD_UID, needs_uid, parse::uid);
        let listening = listening.filter(|address| !address.is_unspecified());
        let address = if reports && listening.is_none() {
            let why = format!(
                "which {} needs where {} names no single address",
                AGGREGATORS.name, ADDRESS.name
            );
            self.required(&POD_ADDRESS, &why, parse::standard)
        } else {
            self.optional(&POD_ADDRESS, parse::standard).or(listening)
        };
        PodIdentity {
            namespace,
            name: pod,
            uid,
            address,
        }
    }

    fn problem(&mut self, variable: &'static Variable, got: Option<String>, why: String) {
        self.problems.push(Problem { variable, got, why });
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
