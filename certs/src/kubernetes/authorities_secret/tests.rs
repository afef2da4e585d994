//! The Secret against a scripted API server.

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::{
    authority::Authority,
    kubernetes::scripted::Server,
    store::agree,
    testing::{HOUR, at, quick},
};

const SECRETS: &str = "/api/v1/namespaces/system/secrets";
const PATH: &str = "/api/v1/namespaces/system/secrets/ca";

fn register(server: &Server) -> AuthoritiesSecret {
    AuthoritiesSecret::new(server.client(), "system", "ca")
}

fn made() -> Authorities {
    Authorities::new(Authority::create(HOUR * 8, at(HOUR)).unwrap())
}

async fn agreed(server: &Server) -> String {
    let agreed = agree(&register(server), &quick(), at(HOUR)).await;
    agreed.unwrap().0.bundle_pem()
}

fn whole_error(error: &StoreError) -> String {
    let source = std::error::Error::source(error).unwrap();
    format!("{error}: {source}")
}

#[tokio::test]
async fn a_secret_is_created_and_read_again() {
    let server = Server::default();
    let bundle = agreed(&server).await;
    let writes = server.writes();
    assert_eq!(writes.len(), 1);
    assert!(
        writes[0].starts_with(&format!("POST {SECRETS} ")),
        "{writes:?}"
    );
    assert!(
        writes[0].contains("fieldManager=stillwake-certs"),
        "{writes:?}"
    );
    assert_eq!(agreed(&server).await, bundle);
    assert_eq!(server.writes().len(), 1);
    let secret: Secret = serde_json::from_value(server.object(PATH).unwrap()).unwrap();
    assert_eq!(secret.data.unwrap()[AUTHORITIES_KEY].0, bundle.as_bytes());
}

#[tokio::test]
async fn an_empty_secret_is_filled_and_stays_somebody_elses_otherwise() {
    let server = Server::default();
    let label = json!({"metadata": {"name": "ca", "labels": {"owner": "chart"}}, "type": "Opaque"});
    server.put(PATH, label);
    let bundle = agreed(&server).await;
    let writes = server.writes();
    assert!(
        writes[0].starts_with(&format!("PATCH {PATH} application/merge-patch")),
        "{writes:?}"
    );
    assert_eq!(agreed(&server).await, bundle);
    let secret = server.object(PATH).unwrap();
    assert_eq!(secret["metadata"]["labels"]["owner"], "chart");
}

#[tokio::test]
async fn whoever_is_quicker_wins_on_a_missing_and_on_an_empty_secret() {
    for empty in [false, true] {
        // What a rival would have written.
        let elsewhere = Server::default();
        let theirs = agreed(&elsewhere).await;
        let rival = elsewhere.object(PATH).unwrap();

        let server = Server::default();
        if empty {
            server.put(PATH, json!({"metadata": {"name": "ca"}}));
        }
        server.put_before_next_write(PATH, rival);
        assert_eq!(agreed(&server).await, theirs);
        assert_eq!(server.writes().len(), 1, "the rival's stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_start_together_agree() {
    for _ in 0..10 {
        let server = Server::default();
        let mut replicas = JoinSet::new();
        for _ in 0..6 {
            let server = server.clone();
            replicas.spawn(async move { agreed(&server).await });
        }
        let agreed = replicas.join_all().await;
        assert!(agreed.iter().all(|one| *one == agreed[0]));
    }
}

#[tokio::test]
async fn a_write_fails_on_a_version_that_is_gone() {
    let server = Server::default();
    let register = register(&server);
    let (_, absent) = register.read().await.unwrap();
    let first = register.write(&made(), &absent).await.unwrap().unwrap();
    assert!(register.write(&made(), &absent).await.unwrap().is_none());
    let second = register.write(&made(), &first).await.unwrap().unwrap();
    assert!(register.write(&made(), &first).await.unwrap().is_none());
    server.delete(PATH);
    assert!(register.write(&made(), &second).await.unwrap().is_none());
}

#[tokio::test]
async fn a_secret_that_holds_something_else_is_left_alone() {
    let server = Server::default();
    // "{}" and two bytes that are no text.
    for (state, expected) in [("e30=", "missing field"), ("//8=", "not UTF-8")] {
        let secret = json!({"metadata": {"name": "ca"}, "data": {STATE_KEY: state}});
        server.put(PATH, secret);
        let error = agree(&register(&server), &quick(), at(HOUR)).await;
        let error = whole_error(&error.unwrap_err());
        assert!(
            error.contains("`authorities.json` of Secret system/ca"),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn a_missing_namespace_is_no_rival() {
    let server = Server::default();
    server.refuse(StatusCode::NOT_FOUND);
    let error = agree(&register(&server), &quick(), at(HOUR)).await;
    let error = whole_error(&error.unwrap_err());
    assert!(error.contains("cannot write Secret system/ca"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_with_object_and_reason() {
    let server = Server::default();
    server.refuse(StatusCode::FORBIDDEN);
    let error = whole_error(&register(&server).read().await.unwrap_err());
    assert!(error.contains("cannot read Secret system/ca"), "{error}");
    assert!(error.contains("refused by the script"), "{error}");
}

#[tokio::test]
async fn the_signer_is_told_and_may_be_named_to_be_replaced() {
    let server = Server::default();
    let register = register(&server);
    assert_eq!(register.retire().await.unwrap(), None, "no Secret, no wish");
    let authorities = made();
    let (_, absent) = register.read().await.unwrap();
    register.write(&authorities, &absent).await.unwrap();
    assert_eq!(register.retire().await.unwrap(), None);

    let mut secret = server.object(PATH).unwrap();
    let annotations = &mut secret["metadata"]["annotations"];
    let signer = annotations[AUTHORITY].as_str().unwrap().to_owned();
    assert_eq!(signer, authorities.signer().to_string());
    annotations[RETIRE] = signer.into();
    server.put(PATH, secret.clone());
    let wish = register.retire().await.unwrap();
    assert_eq!(wish.as_ref(), Some(authorities.signer()));

    secret["metadata"]["annotations"][RETIRE] = "the old one".into();
    server.put(PATH, secret);
    assert_eq!(register.retire().await.unwrap(), None);
}
