//! What people are told about a pod: a warning in the admission response and an Event with the same words.

use std::fmt;

/// Something that is not as the user might expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which kind of thing.
    pub reason: Reason,
    /// What exactly, where, and what would be right.
    pub message: String,
}

/// Kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A label or annotation of ours makes no sense, here or at all; something else applies.
    BadValue,
    /// The sidecar was asked for and this pod cannot have it.
    NotInjected,
    /// A port of the app is not counted.
    Uncounted,
    /// Something else of the pod behaves differently from now on.
    Changed,
    /// The aggregators may not hear of the pod, and have to take it for busy.
    Unreported,
    /// Trouble of ours; the pod is admitted as it came.
    Trouble,
}

impl Reason {
    /// Returns the reason as Events write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadValue => "StillwakeBadValue",
            Self::NotInjected => "StillwakeNotInjected",
            Self::Uncounted => "StillwakeUncounted",
            Self::Changed => "StillwakeChanged",
            Self::Unreported => "StillwakeUnreported",
            Self::Trouble => "StillwakeTrouble",
        }
    }
}

impl Warning {
    /// Creates a warning.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "stillwake: {}", self.message)
    }
}

/// Longest part of a value that is repeated in a message: the API server cuts warnings of more than 256 characters.
const SHOWN: usize = 60;

/// Returns a value as a message repeats it.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(shown("1"), "\"1\"");
        let long = "ä".repeat(61);
        assert_eq!(shown(&long), format!("\"{}\"…", "ä".repeat(60)));
    }
}
