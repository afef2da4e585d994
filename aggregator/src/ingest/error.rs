//! Why a reporter's connection ended.
//!
//! Logs nothing.

use std::io;

use crate::{history::Rejected, identity::Denied};

/// Reasons why a connection ended that are worth a word to the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("what came is no frame: {0}")]
    NotFrame(io::Error),
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
    #[error("no hello came in time")]
    NoHello,
    #[error("the first frame was not a hello")]
    NotHello,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("its address has too many connections that have not said who they are")]
    ShareTaken,
    #[error("there are too many reporters")]
    Full,
    #[error("a frame came that a reporter of this role does not send here")]
    Unexpected,
    #[error("nothing came for too long")]
    Silent,
    #[error("it did not read what it was sent")]
    Unread,
    #[error("{0}")]
    Rejected(Rejected),
}

impl ConnectionError {
    /// As metrics name it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "broken",
            Self::Handshake(_) => "handshake",
            Self::NoHello => "no_hello",
            Self::Silent | Self::Unread => "timeout",
            Self::NotFrame(_) | Self::NotHello | Self::Unexpected => "protocol",
            Self::Denied(denied) => denied.reason(),
            Self::ShareTaken => "address",
            Self::Full => "too_many",
            Self::Rejected(_) => "too_many_workloads",
        }
    }

    /// Whether somebody has to do something about it. The others are what networks do.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Silent | Self::Unread)
    }
}
