//! The names that injection reads and writes in pods; the names of the sidecar's variables are in `sidecar`.

/// Label of a pod or a namespace that asks for the sidecar ([`ENABLED`]) or refuses it ([`DISABLED`]).
pub const INJECT: &str = "stillwake.dev/inject";

/// Value that asks.
pub const ENABLED: &str = "enabled";

/// Value that refuses.
pub const DISABLED: &str = "disabled";

/// Annotation on an injected pod: the pairs listen:app of the ports that are counted, separated by commas.
pub const COUNTED_PORTS: &str = "stillwake.dev/counted-ports";

/// Annotation on a pod: the app's ports that are not counted, each with the reason, separated by semicolons.
pub const UNCOUNTED_PORTS: &str = "stillwake.dev/uncounted-ports";

/// Annotation on an injected pod: which authorities its sidecar was told to trust, as [`Authorities`] call them. An
/// authority is needed for as long as there are pods that know no other.
///
/// [`Authorities`]: crate::authorities::Authorities
pub const AUTHORITIES: &str = "stillwake.dev/authorities";

/// What all our annotations and labels begin with.
pub const PREFIX: &str = "stillwake.dev/";

/// Name of the sidecar's container.
pub const SIDECAR: &str = "stillwake-sidecar";

/// Name of the init container that redirects ports.
pub const REDIRECT: &str = "stillwake-redirect";

/// Name of the volume with the token that proves which pod reports.
pub const TOKEN_VOLUME: &str = "stillwake-token";
