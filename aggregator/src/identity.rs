//! Who a reporter is, as far as its hello can be believed.
//!
//! Does not check that the pod exists; membership knows that.

use std::{fmt, net::IpAddr};

use stillwake_proto::{
    REPORT_VERSION,
    report::{Hello, Port, Role},
};

use crate::token::TokenError;

/// Most ports that one sidecar may take over.
const MAX_PORTS: usize = 64;

/// A reporter whose hello was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// What it reports.
    pub role: Role,
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
}

/// Reasons to refuse a reporter.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// It speaks another version of the protocol.
    #[error(
        "the reporter speaks version {0} of the report protocol, this aggregator version {REPORT_VERSION}"
    )]
    Version(u32),
    /// A field of the hello is missing or makes no sense.
    #[error("the hello's {field} is {value}, it must be {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it is, in quotes.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The token does not prove what the hello says.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Denied {
    /// As metrics name it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Field { .. } => "hello",
            Self::Token(error) => error.reason(),
        }
    }
}

/// Writes a stranger's text so that it can stand in a log: in quotes, on one line, and not for longer than it takes to
/// recognise it.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 64;
        let mut characters = self.0.chars();
        let shown = characters.by_ref().take(LONGEST);
        let shown: String = shown.flat_map(char::escape_debug).collect();
        let rest = if characters.next().is_some() {
            "…"
        } else {
            ""
        };
        write!(formatter, "'{shown}{rest}'")
    }
}

/// Decides whether a hello is believed.
pub trait Identify: fmt::Debug + Send + Sync + 'static {
    /// Returns who the reporter is.
    ///
    /// # Errors
    ///
    /// Says why it is not believed.
    fn identify(&self, hello: &Hello) -> Result<Identity, Denied>;
}

/// Believes every hello. For a port that only this machine reaches.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrustHello;

impl Identify for TrustHello {
    fn identify(&self, hello: &Hello) -> Result<Identity, Denied> {
        Ok(Identity {
            role: hello.role(),
            namespace: hello.namespace.clone(),
            pod: hello.pod.clone(),
            uid: hello.uid.clone(),
        })
    }
}

/// Checks what must hold for a hello whoever sent it.
pub(crate) fn check(hello: &Hello) -> Result<(), Denied> {
    let wrong = |field, value: &dyn ToString, expected| {
        let value = Quoted(&value.to_string()).to_string();
        Err(Denied::Field {
            field,
            value,
            expected,
        })
    };
    if hello.version != REPORT_VERSION {
        return Err(Denied::Version(hello.version));
    }
    if hello.epoch == 0 {
        return wrong("epoch", &0, "a random number other than 0");
    }
    if hello.role() == Role::Unspecified {
        return wrong("role", &hello.role, "sidecar (1) or activator (2)");
    }
    if hello.uid.is_empty() {
        return wrong("uid", &"", "the UID of the reporter's pod");
    }
    if hello.role() == Role::Sidecar && hello.address.parse::<IpAddr>().is_err() {
        return wrong("address", &hello.address, "an IP address");
    }
    if hello.ports.len() > MAX_PORTS {
        return wrong("number of ports", &hello.ports.len(), "at most 64");
    }
    let valid = |number: u32| (1..=u32::from(u16::MAX)).contains(&number);
    match hello
        .ports
        .iter()
        .find(|port| !valid(port.listen) || !valid(port.app))
    {
        Some(Port { listen, app }) => wrong(
            "port",
            &format!("{listen}:{app}"),
            "two numbers from 1 to 65535",
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version: REPORT_VERSION,
            epoch: 7,
            role: Role::Sidecar.into(),
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
            uid: "u1".to_owned(),
            token: String::new(),
            address: "10.0.0.1".to_owned(),
            ports: vec![Port {
                listen: 15080,
                app: 8080,
            }],
        }
    }

    #[test]
    fn a_whole_hello_passes() {
        check(&hello()).unwrap();
    }

    #[test]
    fn a_refusal_names_the_field_and_what_it_takes() {
        let refused = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            check(&hello).unwrap_err().to_string()
        };
        for (message, part) in [
            (refused(|hello| hello.version = 9), "version 9"),
            (refused(|hello| hello.epoch = 0), "epoch"),
            (refused(|hello| hello.role = 0), "role"),
            (refused(|hello| hello.uid.clear()), "uid"),
            (refused(|hello| hello.address = "web".to_owned()), "'web'"),
            (refused(|hello| hello.ports[0].app = 70_000), "15080:70000"),
            (
                refused(|hello| hello.ports = vec![Port { listen: 1, app: 1 }; 65]),
                "at most 64",
            ),
        ] {
            assert!(message.contains(part), "{part} is missing from: {message}");
        }
    }

    #[test]
    fn a_strangers_text_is_one_short_line() {
        assert_eq!(Quoted("10.0.0.1").to_string(), "'10.0.0.1'");
        assert_eq!(Quoted("a\nb\u{1b}[0m'").to_string(), "'a\\nb\\u{1b}[0m\\''");
        let long = Quoted(&"x".repeat(10_000)).to_string();
        assert_eq!(long, format!("'{}…'", "x".repeat(64)));
    }
}
