//! Logs to standard error, as text for people or as JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    Layer as _,
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

/// What is logged when nothing else is asked for.
pub const DEFAULT_FILTER: &str = "warn,stillwake=info";

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line of text, coloured on a terminal.
    #[default]
    Text,
    /// [`Text`](Self::Text) without time and target, for a command that somebody watches.
    Brief,
    /// One JSON object a line.
    Json,
}

/// Reasons why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not a comma-separated list of `level` and `target=level`.
    #[error(
        "'{filter}' is no log filter: {source}; write a level (error, warn, info, debug, trace) or target=level, \
         separated by commas, as in '{DEFAULT_FILTER}'"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// Why it was refused.
        source: ParseError,
    },
    /// Logging was set up before.
    #[error("logging was set up twice")]
    Twice(#[from] TryInitError),
}

/// Sets up logging for the whole process.
///
/// # Errors
///
/// Fails for a filter that cannot be read, and when called twice.
pub fn init(filter: &str, format: Format) -> Result<(), LoggingError> {
    let targets = filter
        .parse::<Targets>()
        .map_err(|source| LoggingError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let lines = || fmt::layer().with_writer(std::io::stderr);
    let text = || lines().with_ansi(std::io::stderr().is_terminal());
    let layer = match format {
        Format::Text => text().boxed(),
        Format::Brief => text().without_time().with_target(false).boxed(),
        Format::Json => lines().json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .try_init()?;
    Ok(())
}
