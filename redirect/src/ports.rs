//! What is to be redirected, and which wishes contradict themselves. What the kernel makes of them is elsewhere.

use std::fmt;

/// One port of the app whose connections the sidecar takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRedirect {
    /// Where the sidecar listens, from 1.
    pub listen: u16,
    /// What clients dial: the app's port, from 1.
    pub app: u16,
}

impl fmt::Display for PortRedirect {
    /// As it is written on the command line: `LISTEN:APP`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.listen, self.app)
    }
}

/// Ports that make no sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// There are none.
    #[error("there is no port to redirect; name at least one, as LISTEN:APP")]
    None,
    /// Nobody listens on port 0.
    #[error("{0} holds port 0, which nobody can listen on or dial; ports are from 1 to 65535")]
    Zero(PortRedirect),
    /// Only the first rule for a port would count.
    #[error("port {app} is to be redirected twice; name each port of the app once")]
    Twice {
        /// The port.
        app: u16,
    },
    /// A client that dials the sidecar's port would be sent on to another one.
    #[error(
        "port {listen} is the sidecar's and to be redirected as well; the sidecar's ports must differ from the app's"
    )]
    Both {
        /// The port.
        listen: u16,
    },
}

/// Checks that every redirect can be meant.
pub(crate) fn check(redirects: &[PortRedirect]) -> Result<(), PortsError> {
    if redirects.is_empty() {
        return Err(PortsError::None);
    }
    for (index, redirect) in redirects.iter().enumerate() {
        let PortRedirect { listen, app } = *redirect;
        if listen == 0 || app == 0 {
            return Err(PortsError::Zero(*redirect));
        }
        if redirects[..index].iter().any(|other| other.app == app) {
            return Err(PortsError::Twice { app });
        }
        if redirects.iter().any(|other| other.app == listen) {
            return Err(PortsError::Both { listen });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pairs: &[(u16, u16)]) -> Result<(), PortsError> {
        let redirects: Vec<_> = pairs
            .iter()
            .map(|&(listen, app)| PortRedirect { listen, app })
            .collect();
        check(&redirects)
    }

    #[test]
    fn ports_that_contradict_each_other_are_refused() {
        assert_eq!(checked(&[]), Err(PortsError::None));
        let zero = |listen, app| Err(PortsError::Zero(PortRedirect { listen, app }));
        assert_eq!(checked(&[(0, 8080)]), zero(0, 8080));
        assert_eq!(checked(&[(15080, 8080), (15081, 0)]), zero(15081, 0));
        let twice = checked(&[(15080, 8080), (15081, 8080)]);
        assert_eq!(twice, Err(PortsError::Twice { app: 8080 }));
        assert_eq!(
            checked(&[(8080, 8080)]),
            Err(PortsError::Both { listen: 8080 })
        );
        let circle = checked(&[(15080, 8080), (8080, 9090)]);
        assert_eq!(circle, Err(PortsError::Both { listen: 8080 }));
    }

    #[test]
    fn two_app_ports_may_lead_to_one_listener() {
        assert_eq!(checked(&[(15080, 8080), (15080, 8081)]), Ok(()));
    }
}
