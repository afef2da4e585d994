//! Tokens as the API server signs them, and an aggregator's side that knows its key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use stillwake_aggregator::{PodTokens, ServiceAccount};
use stillwake_proto::report::{Hello, Role};

use crate::harness::hello;

pub(crate) const AUDIENCE: &str = "stillwake-aggregator";

/// Who signs tokens.
pub(crate) struct ApiServer {
    key: &'static str,
    pair: EcdsaKeyPair,
}

impl ApiServer {
    pub(crate) fn new(key: &'static str) -> Self {
        let (signing, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &random).unwrap();
        Self { key, pair }
    }

    /// What it publishes at `/openid/v1/jwks`.
    pub(crate) fn keys(&self) -> String {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let number = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({
            "use": "sig", "kty": "EC", "kid": self.key, "crv": "P-256", "alg": "ES256",
            "x": number(x), "y": number(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// An aggregator's side that has been handed the keys. Activators are of `stillwake-system/activator`.
    pub(crate) fn verifier(&self) -> PodTokens {
        let activator = ServiceAccount {
            namespace: "stillwake-system".to_owned(),
            name: "activator".to_owned(),
        };
        let tokens = PodTokens::new(AUDIENCE, [activator]);
        tokens.set_keys(&self.keys()).unwrap();
        tokens
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.key});
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }

    /// The hello of a sidecar with the token that the kubelet gives its pod.
    pub(crate) fn hello(&self, uid: &str) -> Hello {
        Hello {
            token: self.sign(&claims("shop", "default", uid)),
            ..hello(Role::Sidecar, uid)
        }
    }
}

/// What the API server claims of the pod `pod-<uid>`, for an hour from now.
pub(crate) fn claims(namespace: &str, account: &str, uid: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour = Duration::from_hours(1);
    json!({
        "aud": [AUDIENCE],
        "exp": (now + hour).as_secs(),
        "nbf": now.as_secs(),
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": format!("pod-{uid}"), "uid": uid},
            "serviceaccount": {"name": account, "uid": "s1"},
        },
    })
}
