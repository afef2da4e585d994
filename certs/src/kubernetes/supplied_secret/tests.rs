//! A Secret of somebody else's against a scripted API server.

use http::StatusCode;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::scripted::Server;

const PATH: &str = "/api/v1/namespaces/system/secrets/tls";

fn source(server: &Server) -> SuppliedSecret {
    SuppliedSecret::new(server.client(), "system", "tls")
}

fn secret(data: &[(&str, &str)]) -> Value {
    let mut secret = json!({"metadata": {"name": "tls"}, "data": {}});
    for (key, text) in data {
        secret["data"][key] = json!(ByteString(text.as_bytes().to_vec()));
    }
    secret
}

#[tokio::test]
async fn the_latest_content_is_read() {
    let server = Server::default();
    let source = source(&server);
    server.put(PATH, secret(&[("tls.crt", "chain"), ("tls.key", "key")]));
    let first = source.read().await.unwrap();
    let parts = (first.certificate.as_str(), first.key.as_str());
    assert_eq!((parts, &first.authorities), (("chain", "key"), &None));
    server.put(
        PATH,
        secret(&[("tls.crt", "chain"), ("tls.key", "key"), ("ca.crt", "ca")]),
    );
    let second = source.read().await.unwrap();
    assert_eq!(second.authorities.as_deref(), Some("ca"));
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let server = Server::default();
    let source = source(&server);
    let error = source.read().await.unwrap_err().to_string();
    assert!(error.contains("cannot read Secret system/tls"), "{error}");
    server.put(PATH, secret(&[("tls.crt", "chain")]));
    let error = source.read().await.unwrap_err().to_string();
    assert!(
        error.contains("Secret system/tls has no `tls.key`"),
        "{error}"
    );
    server.refuse(StatusCode::FORBIDDEN);
    source.read().await.unwrap_err();
}
