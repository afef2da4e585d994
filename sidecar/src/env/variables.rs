//! The one list of environment variables: what each is called, takes and is for.
//!
//! How values are parsed is in `parse`.

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What a value looks like; completes "it takes …".
    pub takes: &'static str,
    /// The value used when it is not set or empty, where there is one.
    pub default: Option<&'static str>,
    /// What it is for.
    pub purpose: &'static str,
}

pub(super) const PORTS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_PORTS",
    takes: "pairs listen:app of port numbers, separated by commas, such as 15080:8080,15081:9090",
    default: None,
    purpose: "The app's ports, and where the sidecar listens in front of each. Listen port 0 lets the kernel choose. \
              Required.",
};

pub(super) const ADDRESS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_ADDRESS",
    takes: "an IP address of this machine",
    default: None,
    purpose: "Where to listen. Without it on all addresses, of IPv6 and IPv4 or of IPv4 alone if there is no IPv6.",
};

pub(super) const AGGREGATORS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_AGGREGATORS",
    takes: "host:port, several separated by commas",
    default: None,
    purpose: "Who is told the counts: every address that each name resolves to. Without it nobody is told, and the app \
              is served all the same.",
};

pub(super) const AGGREGATOR_CA: Variable = Variable {
    name: "STILLWAKE_SIDECAR_AGGREGATOR_CA",
    takes: "certificates in PEM form",
    default: None,
    purpose: "Authorities that the aggregators' certificates must come from. With it connections to them are TLS, and each \
              has to prove that it is the host which `STILLWAKE_SIDECAR_AGGREGATORS` names; one that cannot is told nothing. \
              Without it they are plaintext.",
};

pub(super) const POD_NAMESPACE: Variable = Variable {
    name: "STILLWAKE_SIDECAR_POD_NAMESPACE",
    takes: "the pod's namespace",
    default: None,
    purpose: "Who reports. Required with `STILLWAKE_SIDECAR_AGGREGATORS`.",
};

pub(super) const POD_NAME: Variable = Variable {
    name: "STILLWAKE_SIDECAR_POD_NAME",
    takes: "the pod's name",
    default: None,
    purpose: "Who reports. Required with `STILLWAKE_SIDECAR_AGGREGATORS`.",
};

pub(super) const POD_UID: Variable = Variable {
    name: "STILLWAKE_SIDECAR_POD_UID",
    takes: "the pod's uid",
    default: None,
    purpose: "Who reports, and whose connections are handed over. Required with `STILLWAKE_SIDECAR_AGGREGATORS` and with \
              `STILLWAKE_SIDECAR_ACTIVATOR`.",
};

pub(super) const POD_ADDRESS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_POD_ADDRESS",
    takes: "the pod's IP address",
    default: None,
    purpose: "Where clients reach the pod, and where the readiness check finds the app. Without it the same as \
              `STILLWAKE_SIDECAR_ADDRESS`; required with `STILLWAKE_SIDECAR_AGGREGATORS` if that names no single address.",
};

pub(super) const READINESS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_READINESS",
    takes: "tcp:PORT, http:PORT/PATH or none",
    default: None,
    purpose: "How to find out that the app takes requests: it accepts a connection, it answers a GET with a status from \
              200 to 399, or not at all (then the sidecar never calls the app ready). Without it a connection to the \
              first app port.",
};

pub(super) const TOKEN_FILE: Variable = Variable {
    name: "STILLWAKE_SIDECAR_TOKEN_FILE",
    takes: "the path of a file",
    default: None,
    purpose: "Service-account token that proves to the aggregators which pod reports; read again at each connection.",
};

pub(super) const ADMIN: Variable = Variable {
    name: "STILLWAKE_SIDECAR_ADMIN",
    takes: "IP:PORT, such as 127.0.0.1:15090 or [::]:15090",
    default: None,
    purpose: "Where `/live`, `/ready`, `/metrics` and `/debug/state` are served. Without it they are not.",
};

pub(crate) const CONTROL: Variable = Variable {
    name: "STILLWAKE_SIDECAR_CONTROL",
    takes: "a name of at most 107 bytes",
    default: None,
    purpose: "Name of an abstract Unix socket in this network namespace, on which `stillwake-sidecar drain` (as a preStop \
              hook) tells the sidecar to begin a drain: responses say `Connection: close`, the aggregators hear of it, and \
              connections are accepted all the same until SIGTERM. Without it there is none.",
};

pub(super) const IGNORE_PATHS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_IGNORE_PATHS",
    takes: "beginnings of request paths, each with its leading /, separated by commas",
    default: None,
    purpose: "Requests that are relayed but not counted, by path.",
};

pub(super) const IGNORE_USER_AGENTS: Variable = Variable {
    name: "STILLWAKE_SIDECAR_IGNORE_USER_AGENTS",
    takes: "beginnings of User-Agent headers, separated by commas",
    default: None,
    purpose: "Requests that are relayed but not counted, by client, besides the kubelet's probes and Prometheus' scrapes.",
};

pub(super) const IDLE_WINDOW: Variable = Variable {
    name: "STILLWAKE_SIDECAR_IDLE_WINDOW",
    takes: "a duration such as 250ms, 5s or 1m",
    default: Some("60s"),
    purpose: "How long a connection that is neither HTTP/1.1 nor HTTP/2 counts as one request in flight after bytes \
              moved on it.",
};

pub(super) const DRAIN_GRACE: Variable = Variable {
    name: "STILLWAKE_SIDECAR_DRAIN_GRACE",
    takes: "a duration such as 250ms, 5s or 1m",
    default: Some("30s"),
    purpose: "How long requests in flight get to end after SIGTERM, whenever the drain began; what is left then is cut.",
};

pub(super) const ACTIVATOR: Variable = Variable {
    name: "STILLWAKE_SIDECAR_ACTIVATOR",
    takes: "host:port",
    default: None,
    purpose: "Who takes connections that the app does not take any more while the sidecar drains: the activator's relay port. \
              Its name is resolved when the drain begins. Without it such connections are reset.",
};

pub(super) const LINGER: Variable = Variable {
    name: "STILLWAKE_SIDECAR_LINGER",
    takes: "a duration such as 250ms, 5s or 1m",
    default: Some("5s"),
    purpose: "With `STILLWAKE_SIDECAR_ACTIVATOR`: how long after its drain began the sidecar goes on to accept connections, \
              also after SIGTERM, because it takes a while until nobody is sent here any more. No longer than \
              `STILLWAKE_SIDECAR_DRAIN_GRACE`.",
};

pub(super) const STOP_DELAY: Variable = Variable {
    name: "STILLWAKE_SIDECAR_STOP_DELAY",
    takes: "a duration such as 250ms, 5s or 1m",
    default: None,
    purpose: "With `STILLWAKE_SIDECAR_ACTIVATOR`: how long after the drain began the app is told to stop. From a second before \
              that on, new connections, and the next request of a kept one, go to the activator first: an app that stops \
              loses what is on its way to it.",
};

pub(super) const LOG: Variable = Variable {
    name: "STILLWAKE_SIDECAR_LOG",
    takes: "levels (error, warn, info, debug, trace) or target=level, separated by commas",
    default: Some(stillwake_runtime::logging::DEFAULT_FILTER),
    purpose: "What is logged to standard error.",
};

pub(super) const LOG_FORMAT: Variable = Variable {
    name: "STILLWAKE_SIDECAR_LOG_FORMAT",
    takes: "text or json",
    default: Some("text"),
    purpose: "How a log line looks.",
};

/// Every variable the sidecar reads, in the order of the reference page.
pub const VARIABLES: [&Variable; 21] = [
    &PORTS,
    &ADDRESS,
    &AGGREGATORS,
    &AGGREGATOR_CA,
    &POD_NAMESPACE,
    &POD_NAME,
    &POD_UID,
    &POD_ADDRESS,
    &READINESS,
    &TOKEN_FILE,
    &ADMIN,
    &CONTROL,
    &IGNORE_PATHS,
    &IGNORE_USER_AGENTS,
    &IDLE_WINDOW,
    &DRAIN_GRACE,
    &ACTIVATOR,
    &LINGER,
    &STOP_DELAY,
    &LOG,
    &LOG_FORMAT,
];
