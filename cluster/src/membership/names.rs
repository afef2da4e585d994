//! The names by which a pod's injection is read. They are the webhook's, which this crate does not know; a test of the
//! crate that knows both, `stillwake`, compares them.

/// Label that asks for the sidecar or refuses it.
pub const INJECT: &str = "stillwake.dev/inject";

/// Annotation with the ports that are counted.
pub const COUNTED_PORTS: &str = "stillwake.dev/counted-ports";

/// Annotation with the ports that are not, and why.
pub const UNCOUNTED_PORTS: &str = "stillwake.dev/uncounted-ports";

/// Name of the sidecar's container.
pub const SIDECAR: &str = "stillwake-sidecar";
