//! Who is believed on a real cluster: KEDA by TLS and certificates, aggregators by their authority, sidecars by their
//! pods' tokens; and what strangers get at the ports.
//!
//! The suites of the crates have every single reason for a refusal; here it is the installed product.

mod authority;
mod clients;
mod hostile;
mod keda;
mod ports;
mod repeated;
mod rotation;
mod scaler;
mod steady;
