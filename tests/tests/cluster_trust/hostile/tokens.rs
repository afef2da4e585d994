//! Tokens of service accounts: real ones, ones for another use, and ones that nobody was given.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::api::PostParams;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{Namespace, stillwake::Stillwake, watching},
    wait,
};
use stillwake_runtime::tls::Trust;
use stillwake_test_cluster::Running;
use tokio::net::TcpStream;

use super::{
    ensure_refused, name, refusals,
    sources::Sources,
    speech::{Reception, hello, introduce},
};
use crate::ports;

/// As the chart has it.
const AUDIENCE: &str = "stillwake-aggregator";

/// Times that each token is shown to each aggregator.
const TIMES: u64 = 3;

/// The tokens of one pod, and the key that the cluster signs with.
pub(super) struct Tokens {
    pub(super) namespace: Namespace,
    /// As the kubelet would project it.
    pub(super) right: String,
    other_audience: String,
    unbound: String,
    key: KeyPair,
}

impl Tokens {
    pub(super) async fn of(namespace: &Namespace, pod: &Pod) -> anyhow::Result<Self> {
        let key = Running::expect()?.service_account_key();
        let key =
            std::fs::read_to_string(&key).with_context(|| format!("reading {}", key.display()));
        Ok(Self {
            namespace: namespace.clone(),
            right: request(namespace, AUDIENCE, Some(pod)).await?,
            other_audience: request(namespace, "somebody-else", Some(pod)).await?,
            unbound: request(namespace, AUDIENCE, None).await?,
            key: KeyPair::from_pem(&key?)?,
        })
    }
}

/// Has the API server make a token for the default account, bound to a pod or not.
async fn request(
    namespace: &Namespace,
    audience: &str,
    pod: Option<&Pod>,
) -> anyhow::Result<String> {
    let bound = pod.map(|pod| {
        let (name, uid) = name(pod);
        BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name),
            uid: Some(uid),
        }
    });
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            bound_object_ref: bound,
            expiration_seconds: None,
        },
        ..TokenRequest::default()
    };
    let accounts = namespace.api::<ServiceAccount>();
    let parameters = PostParams::default();
    let made = accounts
        .create_token_request("default", &parameters, &request)
        .await?;
    Ok(made.status.context("no token was made")?.token)
}

/// Returns a token's header and claims.
fn read(token: &str) -> anyhow::Result<(Value, Value)> {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part)?;
        anyhow::Ok(serde_json::from_slice::<Value>(&bytes)?)
    });
    let mut next = || parts.next().context("a token without parts")?;
    Ok((next()?, next()?))
}

/// Makes a token of a header and claims.
fn sign(key: &KeyPair, header: &Value, claims: &Value) -> anyhow::Result<String> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Returns what is refused: for which reason, the token, and whose pod's sidecar shows it.
fn wrong<'a>(
    tokens: &Tokens,
    stranger: &'a Pod,
    victim: &'a Pod,
) -> anyhow::Result<Vec<(&'static str, String, &'a Pod)>> {
    let (header, claims) = read(&tokens.right)?;
    let again = sign(&tokens.key, &header, &claims)?;
    ensure!(
        again == tokens.right,
        "the API server signs with another key"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut expired = claims.clone();
    expired["exp"] = json!(now.as_secs() - 300);
    let mut of_victim = claims.clone();
    let (victim_name, victim_uid) = name(victim);
    of_victim["kubernetes.io"]["pod"] = json!({"name": victim_name, "uid": victim_uid});
    // Signed for the stranger, claimed for the victim.
    let (message, signature) = tokens.right.rsplit_once('.').context("no signature")?;
    let (header_part, _) = message.split_once('.').context("no payload")?;
    let payload = URL_SAFE_NO_PAD.encode(of_victim.to_string());
    let forged = format!("{header_part}.{payload}.{signature}");
    let mut unsigned = header.clone();
    unsigned["alg"] = json!("none");
    let mut of_other_key = header.clone();
    of_other_key["kid"] = json!("of-nobody");
    Ok(vec![
        ("token_other_pod", tokens.right.clone(), victim),
        (
            "token_expired",
            sign(&tokens.key, &header, &expired)?,
            stranger,
        ),
        ("token_audience", tokens.other_audience.clone(), stranger),
        ("token_missing", String::new(), stranger),
        ("token_not_of_pod", tokens.unbound.clone(), stranger),
        ("token_signature", forged, victim),
        (
            "token_algorithm",
            sign(&tokens.key, &unsigned, &of_victim)?,
            victim,
        ),
        (
            "token_key_unknown",
            sign(&tokens.key, &of_other_key, &of_victim)?,
            victim,
        ),
        ("token_malformed", "a token".to_owned(), victim),
    ])
}

/// Shows every aggregator every token that proves nothing, each several times, and sees each refused, counted and told once.
pub(super) async fn attack(
    stillwake: &Stillwake,
    tokens: &Tokens,
    stranger: &Pod,
    victim: &Pod,
    sources: &Sources,
) -> anyhow::Result<()> {
    let trust = Trust::from_pem(&stillwake.authorities().await?)?;
    let host = stillwake.reports_host();
    let reports = ports::reports(stillwake).await?;
    // What is refused below is so for its token alone.
    for address in &reports {
        let stream = TcpStream::connect(address).await?;
        let received = introduce(&trust, &host, stream, hello(stranger, &tokens.right)?).await?;
        let is_believed = matches!(received, Reception::Believed(_));
        ensure!(
            is_believed,
            "a pod is not believed for itself: {received:?}"
        );
    }
    let wrong = wrong(tokens, stranger, victim)?;
    for (reason, token, pod) in &wrong {
        for address in &reports {
            for _ in 0..TIMES {
                let stream = TcpStream::connect(address).await?;
                let received = introduce(&trust, &host, stream, hello(pod, token)?).await?;
                let is_refused = matches!(received, Reception::Refused);
                ensure!(is_refused, "{reason} is believed by {address}");
            }
        }
    }
    for (reason, ..) in &wrong {
        wait::until("what was refused", watching::PATIENCE, async || {
            let found = refusals(stillwake, &tokens.namespace, reason).await?;
            ensure_refused(&found, reason, TIMES, 1)
        })
        .await?;
    }
    // The first one of another source is news again.
    let (reason, token, pod) = &wrong[3];
    let stream = sources.connect(1).await?;
    let received = introduce(&trust, &host, stream, hello(pod, token)?).await?;
    ensure!(
        matches!(received, Reception::Refused),
        "{reason} is believed"
    );
    let found = || refusals(stillwake, &tokens.namespace, reason);
    wait::until("news of another source", watching::PATIENCE, async || {
        let told = found().await?;
        let is_news = told
            .values()
            .filter(|found| **found == (TIMES + 1, 2))
            .count()
            == 1;
        ensure!(is_news, "{told:?}");
        anyhow::Ok(())
    })
    .await
}
