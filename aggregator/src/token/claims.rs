//! A signed JSON web token in its compact form (RFC 7515, section 7.1), and what Kubernetes claims in it.
//!
//! Nothing of it is believed before its signature is.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};

use super::{ServiceAccount, TokenError, keys::Key};
use crate::identity::Quoted;

/// A token that is not verified yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// Id of the key that is said to have signed it.
    pub(super) key: String,
    algorithm: String,
    /// What is signed: header and payload as they came.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// RFC 7515, section 4.1.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Names extensions that must be understood; we know none.
    crit: Option<serde::de::IgnoredAny>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        let malformed = |why: &str| TokenError::Malformed(why.to_owned());
        let parts = text
            .rsplit_once('.')
            .and_then(|(message, signature)| Some((message, message.split_once('.')?, signature)));
        let Some((message, (header, payload), signature)) = parts else {
            return Err(malformed("it has less than three parts"));
        };
        let header: Header = read("header", header)?;
        if header.crit.is_some() {
            return Err(malformed("its header asks for extensions"));
        }
        Ok(Self {
            key: header.kid,
            algorithm: header.alg,
            message,
            payload,
            signature,
        })
    }

    /// Returns the claims, if the key signed them by the algorithm that it is for. What the header says decides nothing:
    /// who writes a token could choose "none", or a public key as the secret of an HMAC (RFC 8725, section 2.1).
    pub(super) fn verify(&self, key: &Key) -> Result<Claims, TokenError> {
        let expected = key.algorithm.name();
        if self.algorithm != expected {
            return Err(TokenError::Algorithm {
                found: Quoted(&self.algorithm).to_string(),
                expected,
            });
        }
        let signature = decode("signature", self.signature)?;
        if !key.signed(self.message.as_bytes(), &signature) {
            return Err(TokenError::Signature);
        }
        read("payload", self.payload)
    }
}

fn decode(part: &str, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| TokenError::Malformed(format!("its {part} is not base64url: {error}")))
}

fn read<T: DeserializeOwned>(part: &str, text: &str) -> Result<T, TokenError> {
    serde_json::from_slice(&decode(part, text)?)
        .map_err(|error| TokenError::Malformed(format!("its {part} cannot be read: {error}")))
}

/// What the API server claims (its `pkg/serviceaccount/claims.go`).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    aud: Audiences,
    /// Seconds since 1970.
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

/// RFC 7519, section 4.1.3: one as a text, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    #[serde(default)]
    uid: String,
}

/// The pod that a token is bound to.
#[derive(Debug)]
pub(super) struct BoundPod {
    /// Of the pod's namespace.
    pub(super) account: ServiceAccount,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Claims {
    /// Since 1970.
    pub(super) fn expires(&self) -> Duration {
        Duration::from_secs(self.exp)
    }

    /// Since 1970.
    pub(super) fn not_before(&self) -> Duration {
        Duration::from_secs(self.nbf)
    }

    pub(super) fn is_for(&self, audience: &str) -> bool {
        self.aud.all().iter().any(|one| one == audience)
    }

    /// Returns the audiences for people.
    pub(super) fn audiences(&self) -> String {
        Quoted(&self.aud.all().join(", ")).to_string()
    }

    pub(super) fn pod(self) -> Option<BoundPod> {
        let Kubernetes {
            namespace,
            serviceaccount,
            pod,
        } = self.kubernetes?;
        let pod = pod?;
        Some(BoundPod {
            account: ServiceAccount {
                namespace,
                name: serviceaccount.name,
            },
            name: pod.name,
            uid: pod.uid,
        })
    }
}

impl Audiences {
    fn all(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}
