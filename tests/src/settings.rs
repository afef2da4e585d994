//! How often and how long suites do something, where a variable says otherwise than they do.

use std::{env, error::Error, str::FromStr};

use anyhow::Context;

/// Returns what the variable `name` says, or `default` where it is not set.
///
/// # Errors
///
/// When it says something else than is meant.
pub fn setting<T>(name: &str, default: T) -> anyhow::Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let Some(text) = env::var_os(name) else {
        return Ok(default);
    };
    let text = text.to_string_lossy();
    text.parse().with_context(|| format!("{name}={text}"))
}
