//! HTTP/1 through a sidecar process: what is odd but legal, what is large and what is many arrives byte for byte as it was
//! sent, and is counted. At zero it means the same, as the activator answers it.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

mod cold;
mod conversations;
mod heads;
mod script;
mod volume;
