//! The connection to the API server.
//!
//! In a pod it goes to the address in `KUBERNETES_SERVICE_HOST`, with the service account's token and authority, both
//! read again as they are renewed; the server proves itself by that address, which its certificate names. Outside, a
//! kubeconfig says all this (`KUBECONFIG`, or `~/.kube/config`), and goes before.
//!
//! What kube leaves to its user is set here: a server that is silently gone is noticed within half a minute, also by a
//! watch on which nothing happens; an answer has to begin in time; and all requests of a process together are bounded.
//! Nothing is tried again here: whoever asks does that, and knows when.

mod names;

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{Client, Config, client::ConfigExt as _, config::InferConfigError};
use tower::{
    BoxError, ServiceBuilder,
    layer::util::{Identity, Stack},
    limit::RateLimitLayer,
    timeout::TimeoutLayer,
};

use self::names::Names;

/// How long an address may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take to begin, handshakes included. What follows, a watch above all, may take any time.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// When a silent connection is probed, how often, and how many times; and how long sent bytes may stay unacknowledged.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Most requests a second; more wait. What Kubernetes' own controllers allow themselves is of this order.
const REQUESTS: u64 = 50;

/// Reasons why there is no connection to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither in a pod nor with a kubeconfig.
    #[error("there is no way to an API server: this is not a pod with a service account, and {0}")]
    NoConfiguration(#[from] InferConfigError),
    /// The kubeconfig asks for a proxy.
    #[error(
        "the kubeconfig asks for the proxy {0}, and proxies to the API server are not supported"
    )]
    Proxy(http::Uri),
    /// Certificates, keys or tokens cannot be used.
    #[error("the configuration of the API server's client cannot be used: {0}")]
    Unusable(#[from] kube::Error),
    /// The name of the component.
    #[error("{0:?} cannot be part of a user agent")]
    Component(String),
}

/// Connects as this process is configured. Requests say that they come from `stillwake-COMPONENT/VERSION`.
///
/// Connects when the first request is made, and so succeeds whether or not the API server can be reached. Must be called
/// inside a tokio runtime.
///
/// # Errors
///
/// When there is no configuration, or one that cannot be used.
pub async fn connect(component: &str) -> Result<Client, ClientError> {
    with_config(Config::infer().await?, component)
}

/// As [`connect`], with a configuration that somebody else has found.
///
/// # Errors
///
/// When it cannot be used.
pub fn with_config(mut config: Config, component: &str) -> Result<Client, ClientError> {
    if let Some(proxy) = config.proxy_url {
        return Err(ClientError::Proxy(proxy));
    }
    let agent = format!("stillwake-{component}/{}", env!("CARGO_PKG_VERSION"));
    let agent =
        HeaderValue::from_str(&agent).map_err(|_| ClientError::Component(component.to_owned()))?;
    config.headers.push((USER_AGENT, agent));

    let mut connector = HttpConnector::new_with_resolver(Names);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector = config.rustls_https_connector_with_connector(connector)?;

    let service = bounds()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// Bounds how many requests there are and, once one is on its way, how long its answer takes to begin.
fn bounds() -> ServiceBuilder<Stack<TimeoutLayer, Stack<RateLimitLayer, Identity>>> {
    ServiceBuilder::new()
        .layer(RateLimitLayer::new(REQUESTS, Duration::from_secs(1)))
        .layer(TimeoutLayer::new(ANSWER_LIMIT))
}

#[cfg(test)]
mod tests;
