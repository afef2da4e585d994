//! Archives as their readers see them, and what makes none. How a Containerfile is read is tested beside that code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contents;
mod harness;
mod program;
mod refusals;
