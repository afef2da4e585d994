//! The flags of the control plane's roles, as the chart sets them.
//!
//! Only says what a value must look like; what follows from it is in the roles themselves.

#![allow(
    clippy::doc_markdown,
    reason = "what is documented here is shown as help, where backticks are only noise"
)]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use stillwake_certs::rotation;
use stillwake_runtime::logging;
use stillwake_webhook::{settings, surroundings};

mod activator;

pub use self::activator::{ActivatorArgs, Ports};
use crate::args::{address, duration, positive_duration};

const AUTHORITY_LIFETIME: &str = "1460days";

/// What is logged: kube's runtime warns at each attempt of a watch that fails, which `stillwake_cluster` says once and with
/// what would help.
const FILTER: &str = "warn,stillwake=info,kube_runtime=error";

/// What every role needs to know.
#[derive(Clone, Debug, Args)]
pub struct ProcessArgs {
    /// The namespace that Stillwake runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        hide_env_values = true
    )]
    pub namespace: String,
    /// The name of this pod
    #[arg(long, value_name = "POD", env = "POD_NAME", hide_env_values = true)]
    pub name: String,
    /// Where to serve /live, /ready, /metrics and /debug/state
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9900", value_parser = address)]
    pub admin: SocketAddr,
    /// What the names of Services end with
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Look at this namespace only; may be given more than once [default: at all]
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// How long to go on after SIGTERM, until nobody is sent here any more
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// What to log to stderr: a level, or target=level, separated by commas
    #[arg(long, value_name = "FILTER", default_value = FILTER)]
    pub log: String,
    /// How a log line looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogFormat> for logging::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Where certificates come from.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("origin").args(["authorities_secret", "certificate_secret"]).required(true))]
pub struct CertificateArgs {
    /// Secret with the authorities that all replicas share; leaves are signed by them and live in memory
    #[arg(long, value_name = "SECRET", help_heading = "Certificates")]
    pub authorities_secret: Option<String>,
    /// Secret with tls.crt, tls.key and ca.crt that somebody else keeps, such as cert-manager
    #[arg(long, value_name = "SECRET", help_heading = "Certificates")]
    pub certificate_secret: Option<String>,
    /// How long an authority is valid; it is replaced from the middle of its life on
    #[arg(long, value_name = "DURATION", default_value = AUTHORITY_LIFETIME, value_parser = positive_duration, help_heading = "Certificates")]
    pub authority_lifetime: Duration,
    /// How long a leaf is valid; it is renewed after two thirds of its life
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = positive_duration, help_heading = "Certificates")]
    pub leaf_lifetime: Duration,
    /// How long a change of the authorities takes to reach everybody
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = positive_duration, help_heading = "Certificates")]
    pub settle: Duration,
    /// How far the cluster's clocks may be apart
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Certificates")]
    pub clock_skew: Duration,
}

impl CertificateArgs {
    /// Returns the settings of the rotation.
    pub fn settings(&self) -> rotation::Settings {
        rotation::Settings {
            authority_lifetime: self.authority_lifetime,
            leaf_lifetime: self.leaf_lifetime,
            settle: self.settle,
            clock_skew: self.clock_skew,
        }
    }
}

/// Admit pods, with the sidecar where a label asks for it.
///
/// Runs in a cluster, called by the API server; the chart starts it.
#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// What every role needs to know.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Where certificates come from.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// Where the API server connects
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443", value_parser = address)]
    pub listen: SocketAddr,
    /// The Service that leads here
    #[arg(long, value_name = "SERVICE", help_heading = "Certificates")]
    pub service: String,
    /// The MutatingWebhookConfiguration whose caBundle is kept right
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "certificate_secret",
        help_heading = "Certificates"
    )]
    pub webhook_configuration: Option<String>,
    /// The Lease by which one replica is chosen to change the authorities [default: called as that Secret]
    #[arg(long, value_name = "LEASE", help_heading = "Certificates")]
    pub authorities_lease: Option<String>,
    /// Publish ca.crt of --certificate-secret as caBundle, where nobody else does
    #[arg(
        long,
        requires_all = ["certificate_secret", "webhook_configuration"],
        conflicts_with = "authorities_secret",
        help_heading = "Certificates"
    )]
    pub publish_authorities: bool,

    /// Where sidecars report, as HOST:PORT; may be given more than once
    #[arg(
        long = "aggregator",
        value_name = "HOST:PORT",
        required = true,
        help_heading = "Sidecars"
    )]
    pub aggregators: Vec<String>,
    /// Where sidecars of leaving pods hand over connections, as HOST:PORT of the activator's Service [default: nowhere]
    #[arg(
        long = "activator",
        value_name = "HOST:PORT",
        help_heading = "Sidecars"
    )]
    pub activator: Option<String>,
    /// How long such sidecars go on to accept connections, with --activator
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, help_heading = "Sidecars")]
    pub sidecar_linger: Duration,
    /// How long apps go on before they are told to stop, while their sidecars send clients elsewhere; 0s is not at all,
    /// and so is Kubernetes older than 1.31
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = whole_seconds, help_heading = "Sidecars")]
    pub stop_delay: Duration,
    /// Audience of the tokens by which sidecars prove which pod they report for
    #[arg(
        long,
        value_name = "AUDIENCE",
        default_value = "stillwake-aggregator",
        help_heading = "Sidecars"
    )]
    pub token_audience: String,
    /// Image of the sidecar
    #[arg(long, value_name = "IMAGE", help_heading = "Sidecars")]
    pub sidecar_image: String,
    /// When the image is pulled: Always, IfNotPresent or Never [default: Kubernetes' own]
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"], help_heading = "Sidecars")]
    pub sidecar_image_pull_policy: Option<String>,
    /// User and group of the sidecar; empty leaves the choice to the platform
    #[arg(long, value_name = "ID", default_value = "65532", value_parser = user, help_heading = "Sidecars")]
    pub sidecar_user: User,
    /// CPU that is set aside for a sidecar
    #[arg(
        long,
        value_name = "QUANTITY",
        default_value = "5m",
        help_heading = "Sidecars"
    )]
    pub sidecar_cpu_request: String,
    /// Memory that is set aside for a sidecar
    #[arg(
        long,
        value_name = "QUANTITY",
        default_value = "8Mi",
        help_heading = "Sidecars"
    )]
    pub sidecar_memory_request: String,
    /// The most CPU for a sidecar [default: no limit]
    #[arg(long, value_name = "QUANTITY", help_heading = "Sidecars")]
    pub sidecar_cpu_limit: Option<String>,
    /// The most memory for a sidecar [default: no limit]
    #[arg(long, value_name = "QUANTITY", help_heading = "Sidecars")]
    pub sidecar_memory_limit: Option<String>,
    /// Where sidecars serve /metrics and /debug/state [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address, help_heading = "Sidecars")]
    pub sidecar_admin: Option<SocketAddr>,
    /// Whether ports may be redirected in namespaces whose Pod Security level allows it
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, help_heading = "Sidecars")]
    pub redirect: bool,
    /// The Pod Security level that the API server enforces in namespaces which say none
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "privileged",
        help_heading = "Sidecars"
    )]
    pub default_pod_security: PodSecurity,
}

/// A user that the sidecar runs as, if it is ours to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub Option<i64>);

fn user(text: &str) -> Result<User, String> {
    match text {
        "" => Ok(User(None)),
        _ => match text.parse() {
            Ok(id) if id > 0 => Ok(User(Some(id))),
            _ => Err(
                "give a numeric id greater than 0, or nothing to let the platform choose"
                    .to_owned(),
            ),
        },
    }
}

/// Kubernetes' own sleeps know no parts of a second.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 {
        return Ok(duration);
    }
    Err(
        "give whole seconds, such as 2s, or 0s for none: Kubernetes delays by no part of a second"
            .to_owned(),
    )
}

/// Levels of the Pod Security Standards.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PodSecurity {
    /// Everything is allowed.
    Privileged,
    /// Known ways to more privilege are forbidden.
    Baseline,
    /// Hardened.
    Restricted,
}

impl From<PodSecurity> for surroundings::PodSecurity {
    fn from(level: PodSecurity) -> Self {
        match level {
            PodSecurity::Privileged => Self::Privileged,
            PodSecurity::Baseline => Self::Baseline,
            PodSecurity::Restricted => Self::Restricted,
        }
    }
}

impl WebhookArgs {
    /// Returns how pods are injected.
    pub fn injection(&self) -> settings::Settings {
        settings::Settings {
            image_pull_policy: self.sidecar_image_pull_policy.clone(),
            token_audience: self.token_audience.clone(),
            activator: self.activator.clone(),
            linger: self.sidecar_linger,
            stop_delay: self.stop_delay,
            admin: self.sidecar_admin,
            user: self.sidecar_user.0,
            resources: settings::Resources {
                cpu_request: self.sidecar_cpu_request.clone(),
                memory_request: self.sidecar_memory_request.clone(),
                cpu_limit: self.sidecar_cpu_limit.clone(),
                memory_limit: self.sidecar_memory_limit.clone(),
            },
            redirect: self.redirect,
            default_pod_security: self.default_pod_security.into(),
            ..settings::Settings::new(&self.sidecar_image, self.aggregators.clone())
        }
    }

    /// Returns the Lease's name.
    pub fn lease(&self) -> Option<&str> {
        let like = self.certificates.authorities_secret.as_deref();
        self.authorities_lease.as_deref().or(like)
    }
}

/// Collect what sidecars count, and answer KEDA.
///
/// Runs in a cluster; the chart starts it.
#[derive(Clone, Debug, Args)]
pub struct AggregatorArgs {
    /// What every role needs to know.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Where certificates come from.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// Where KEDA connects, with TLS or without
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9090", value_parser = address)]
    pub scaler: SocketAddr,
    /// Where sidecars report, with TLS
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9091", value_parser = address)]
    pub reports: SocketAddr,
    /// The Service that leads KEDA here: a trigger whose scalerAddress names it is ours
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    /// The Service that leads sidecars here
    #[arg(long, value_name = "SERVICE")]
    pub reports_service: String,
    /// Audience that the tokens of sidecars must have
    #[arg(
        long,
        value_name = "AUDIENCE",
        default_value = "stillwake-aggregator",
        help_heading = "Who may connect"
    )]
    pub token_audience: String,
    /// The activator's service account in this namespace: its pods may report what they hold [default: nobody may]
    #[arg(long, value_name = "NAME", help_heading = "Who may connect")]
    pub activator_account: Option<String>,
    /// Whether the HPA is made to look at once when a burst comes, where KEDA and Kubernetes let it (2.21 and 1.37)
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub bursts: bool,
    /// Refuse KEDA without TLS
    #[arg(long, help_heading = "Who may connect")]
    pub require_tls: bool,
    /// Refuse KEDA without a client certificate of one of the authorities in this PEM file; implies --require-tls
    #[arg(long, value_name = "FILE", help_heading = "Who may connect")]
    pub client_authorities: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
