//! Parsers of single values. Each takes exactly what the sidecar or Kubernetes will take as well.

use std::time::Duration;

use super::PortReference;
use crate::{
    names::{DISABLED, ENABLED},
    quantity::Amount,
};

/// Least CPU limit: with less, one turn of the scheduler's period is too short for a request.
pub(crate) const LEAST_CPU_LIMIT: &str = "10m";

/// Least memory limit: with less, the sidecar would be killed at its start.
pub(crate) const LEAST_MEMORY_LIMIT: &str = "8Mi";

/// Parses each part of a comma-separated list, which must have one at least.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let values: Vec<_> = parts.map(parse).collect::<Option<_>>()?;
    (!values.is_empty()).then_some(values)
}

pub(super) fn ports(text: &str) -> Option<Vec<PortReference>> {
    list(text, |part| {
        if part.chars().all(|character| character.is_ascii_digit()) {
            let number = part.parse().ok().filter(|number| *number != 0);
            return number.map(PortReference::Number);
        }
        let named = part.len() <= 15
            && part.chars().all(|character| {
                character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
            });
        named.then(|| PortReference::Name(part.to_owned()))
    })
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        ENABLED => Some(true),
        DISABLED => Some(false),
        _ => None,
    }
}

pub(super) fn paths(text: &str) -> Option<Vec<String>> {
    list(text, |part| part.starts_with('/').then(|| part.to_owned()))
}

pub(super) fn user_agents(text: &str) -> Option<Vec<String>> {
    list(text, |part| Some(part.to_owned()))
}

pub(super) fn duration(text: &str) -> Option<String> {
    milliseconds(text).map(|_| text.to_owned())
}

/// Kubernetes' own sleeps know no parts of a second.
pub(super) fn whole_seconds(text: &str) -> Option<Duration> {
    let milliseconds = milliseconds(text)?;
    milliseconds
        .is_multiple_of(1000)
        .then_some(Duration::from_millis(milliseconds))
}

/// The longest, a day, is far from what could overflow anywhere.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
    (total <= 86_400_000).then_some(total)
}

pub(super) fn log_level(text: &str) -> Option<String> {
    let levels = ["error", "warn", "info", "debug", "trace"];
    levels.contains(&text).then(|| text.to_owned())
}

pub(super) fn quantity(text: &str) -> Option<String> {
    Amount::parse(text).map(|_| text.to_owned())
}

pub(super) fn cpu_limit(text: &str) -> Option<String> {
    quantity(text).filter(|text| !exceeds(LEAST_CPU_LIMIT, text))
}

pub(super) fn memory_limit(text: &str) -> Option<String> {
    quantity(text).filter(|text| !exceeds(LEAST_MEMORY_LIMIT, text))
}

/// Whether one quantity is larger than another; false if one of them is none.
pub(super) fn exceeds(one: &str, other: &str) -> bool {
    matches!((Amount::parse(one), Amount::parse(other)), (Some(one), Some(other)) if one > other)
}
