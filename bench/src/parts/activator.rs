//! The activator: how soon a held request wakes, how soon all are let go, what each takes, and what forwarding takes.

pub(super) mod clients;
mod forward;
mod push;
mod release;

use crate::part::Part;

/// Ours.
const ACTIVATOR: &str = "activator";

/// Its parts.
pub(super) const PARTS: [Part; 3] = [push::PART, release::PART, forward::PART];
