//! What can go wrong, said so that whoever reads a failed init container's last line knows what to change.

use std::{fmt, io};

use rustix::io::Errno;

use crate::{
    netlink::Malformed,
    ports::{PortRedirect, PortsError},
    ruleset,
};

/// Reasons why connections are not redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The wishes contradict each other.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// The process lacks the capability `NET_ADMIN`.
    #[error(
        "the kernel lets only a process with the capability NET_ADMIN change the pod's network rules ({reason}): {}",
        remedy(*user)
    )]
    NotPermitted {
        /// The process's effective user.
        user: u32,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel has no nftables, or not enough of it.
    #[error("the kernel ({release}) has no {lacks} ({reason}): {needs}")]
    Unsupported {
        /// The kernel's version, as `uname -r` has it.
        release: String,
        /// What it lacks.
        lacks: &'static str,
        /// What would be right.
        needs: &'static str,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel refused something for another reason.
    #[error("the kernel refuses {what}: {reason}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel could not be asked, or did not answer.
    #[error("cannot {action} by netlink: {reason}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        reason: io::Error,
    },
    /// The kernel answered something that is not nftables' language.
    #[error("the kernel's answer cannot be read: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The kernel took the rules, and does not show them.
    #[error("the rules are not in effect: {difference}")]
    NotInEffect {
        /// What is missing, or there and not ours.
        difference: String,
    },
}

impl From<Malformed> for RedirectError {
    fn from(Malformed(problem): Malformed) -> Self {
        Self::Answer { problem }
    }
}

fn remedy(user: u32) -> String {
    if user == 0 {
        "add NET_ADMIN to the container's securityContext.capabilities.add".to_owned()
    } else {
        format!(
            "run the container as user 0 with NET_ADMIN in securityContext.capabilities.add; \
             this process is of user {user}, and added capabilities reach only the processes of user 0"
        )
    }
}

/// What the kernel is asked for, to tell what it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Anything of nftables at all.
    Nftables,
    Table,
    Chain,
    Rule(PortRedirect),
    List(&'static str),
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nftables => formatter.write_str("the change as a whole"),
            Self::Table => write!(formatter, "the table inet {}", ruleset::TABLE),
            Self::Chain => write!(formatter, "the chain {}", ruleset::CHAIN),
            Self::Rule(PortRedirect { listen, app }) => {
                write!(formatter, "the rule from port {app} to {listen}")
            }
            Self::List(what) => write!(formatter, "to list {what}"),
        }
    }
}

impl Request {
    /// Returns what a kernel lacks that does not know this, and what it would need.
    fn lack(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nftables => Some((
                "nftables",
                "it needs the modules nf_tables, nft_chain_nat and nft_redir on the node",
            )),
            Self::Table => Some((
                "nftables for the family inet",
                "it needs nf_tables built with CONFIG_NF_TABLES_INET",
            )),
            Self::Chain => Some((
                "nat chains for the family inet",
                "it needs Linux 5.2 or newer, and the module nft_chain_nat on the node",
            )),
            Self::Rule(_) => Some((
                "redirect expression for the family inet",
                "it needs the module nft_redir on the node, with nf_nat and nf_conntrack",
            )),
            Self::List(_) => None,
        }
    }

    /// Returns what the kernel's `reason` for refusing this means.
    pub(crate) fn refused(self, reason: io::Error) -> RedirectError {
        let errno = Errno::from_io_error(&reason);
        if errno == Some(Errno::PERM) {
            return RedirectError::NotPermitted {
                user: rustix::process::geteuid().as_raw(),
                reason,
            };
        }
        // The kernel has no one way to say that a module is not there.
        let unknown = [
            Errno::NOENT,
            Errno::OPNOTSUPP,
            Errno::AFNOSUPPORT,
            Errno::PROTONOSUPPORT,
        ];
        match self.lack() {
            Some((lacks, needs)) if errno.is_some_and(|errno| unknown.contains(&errno)) => {
                RedirectError::Unsupported {
                    release: rustix::system::uname()
                        .release()
                        .to_string_lossy()
                        .into_owned(),
                    lacks,
                    needs,
                    reason,
                }
            }
            _ => RedirectError::Refused {
                what: self.to_string(),
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
