//! An installation where KEDA has to show a certificate, and whose webhook's replicas all begin at once.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace,
        pods::INJECT,
        scaling,
        stillwake::{Component, Stillwake},
        watching,
        web::Web,
    },
    wait,
};
use stillwake_proto::scaler::{ScaledObjectRef, external_scaler_client::ExternalScalerClient};
use stillwake_runtime::tls::Trust;
use tokio::try_join;
use tonic::{
    Code,
    transport::{self, Certificate, ClientTlsConfig, Endpoint},
};

use crate::{
    authority::{Authority, Identity},
    keda, ports,
};

/// Replicas of the webhook that begin with nothing.
const WEBHOOKS: usize = 4;

#[test]
fn keda_has_to_show_a_certificate_where_that_is_asked_for() -> Result<(), Failure> {
    cluster::run("client certificates", async |namespace| {
        let home = namespace.another("home of mtls", &[], &[]).await?;
        let clients = Authority::new("clients")?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "clients"},
            "stringData": {"ca.crt": clients.pem()},
        });
        home.apply_object(serde_json::from_value(secret)?).await?;
        let values = json!({
            "aggregator": {"clientAuthoritiesSecret": "clients"},
            "webhook": {"replicas": WEBHOOKS},
        });
        let stillwake = Stillwake::apart(&home, namespace, &values).await?;
        agree(&stillwake).await?;

        let authority = stillwake.authorities().await?;
        let known = clients.client("keda")?;
        let stranger = Authority::new("clients")?.client("keda")?;
        let with = |identity: &Identity| {
            [
                ("caCert", authority.clone()),
                ("tlsClientCert", identity.certificate.clone()),
                ("tlsClientKey", identity.key.clone()),
            ]
        };
        let authenticate = async |name: &str, parameters: &[(&str, String)]| {
            let parameters: Vec<_> = parameters
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            keda::authenticate(namespace, name, &parameters).await
        };
        authenticate("known", &with(&known)).await?;
        authenticate("stranger", &with(&stranger)).await?;
        authenticate("nobody", &with(&known)[..1]).await?;
        try_join!(
            answered(namespace, &stillwake),
            keda::refused(namespace, &stillwake, "stranger", Some("stranger")),
            keda::refused(namespace, &stillwake, "nobody", Some("nobody")),
            keda::refused(namespace, &stillwake, "plain", None),
            asked_by(&stillwake, &authority, &known, &stranger),
        )?;
        stillwake.uninstall().await
    })
}

/// All replicas that began on an empty Secret serve leaves of the one authority that is in it now.
async fn agree(stillwake: &Stillwake) -> anyhow::Result<()> {
    let bundle = stillwake.authorities().await?;
    let authorities = bundle.matches("BEGIN CERTIFICATE").count();
    ensure!(authorities == 1, "there are {authorities}:\n{bundle}");
    let webhooks = stillwake.replicas(Component::Webhook).await?;
    ensure!(webhooks.len() == WEBHOOKS, "{} webhooks", webhooks.len());
    let trust = Trust::from_pem(&bundle)?;
    let served = ports::certified(stillwake).await?;
    for (address, host) in &served {
        if address.port() != ports::SCALER {
            ports::connect(&trust, host, *address).await?;
        }
    }
    for component in Component::CERTIFIED {
        for (replica, state) in stillwake.states(component).await? {
            let certificates = &state["certificates"];
            let is_one = certificates["leaf_issuer"] == certificates["trusted"];
            ensure!(
                is_one && certificates["phase"] == "settled",
                "{replica}: {certificates}"
            );
        }
    }
    Ok(())
}

/// KEDA gets a number.
async fn answered(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    const NAME: &str = "known";
    let web = Web::new(NAME).label(INJECT, "enabled");
    web.start(namespace).await?;
    let scaling = keda::scaling(NAME, Some(NAME));
    scaling.start(namespace, stillwake).await?;
    let metrics = scaling.metrics(namespace).await?;
    let metric = metrics.first().context("KEDA has no metric")?;
    wait::until("a number at KEDA", watching::PATIENCE, async || {
        let value = scaling::external_metric(namespace, NAME, metric).await?;
        ensure!(value == 0.0, "{value}");
        anyhow::Ok(())
    })
    .await
}

/// The same without a KEDA in between, at every replica.
async fn asked_by(
    stillwake: &Stillwake,
    authority: &str,
    known: &Identity,
    stranger: &Identity,
) -> anyhow::Result<()> {
    let served = ports::certified(stillwake).await?;
    let scalers = served
        .iter()
        .filter(|(address, _)| address.port() == ports::SCALER);
    for (address, host) in scalers {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name(host);
        let showing = |identity: &Identity| {
            let Identity { certificate, key } = identity;
            tls.clone()
                .identity(transport::Identity::from_pem(certificate, key))
        };
        let answer = ask(*address, Some(showing(known))).await?;
        ensure!(answer == Code::NotFound, "the answer is {answer:?}");
        for (who, tls) in [
            ("a stranger", Some(showing(stranger))),
            ("nobody", Some(tls.clone())),
            ("plaintext", None),
        ] {
            let answer = ask(*address, tls).await;
            let is_refused = !matches!(answer, Ok(Code::NotFound));
            ensure!(is_refused, "{who} is answered at {address}: {answer:?}");
        }
    }
    Ok(())
}

/// Asks for a `ScaledObject` that is not there, which who answers says.
async fn ask(address: SocketAddr, tls: Option<ClientTlsConfig>) -> anyhow::Result<Code> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?;
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let mut client = ExternalScalerClient::new(endpoint.connect().await?);
    let object = ScaledObjectRef {
        name: "none".to_owned(),
        namespace: "none".to_owned(),
        ..ScaledObjectRef::default()
    };
    let answer = client.is_active(object).await;
    Ok(answer.map_or_else(|status| status.code(), |_| Code::Ok))
}
