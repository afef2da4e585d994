//! The API server's public keys, as it publishes them at `/openid/v1/jwks`, and what they prove.
//!
//! Fetches nothing. A JSON web token is checked with ring itself: the one well-known crate for it no longer offers ring,
//! takes its cryptography from a global of the process and the time from the machine's clock.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// Lengths of an RSA modulus, in bytes, that ring verifies with.
const MODULUS_LENGTHS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The document of keys makes no sense; the keys from before stay.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It is not JSON of the form that RFC 7517, section 5, has.
    #[error("the signing keys are not a JSON web key set: {0}")]
    NotKeySet(#[from] serde_json::Error),
    /// No key of it can be used.
    #[error(
        "none of the {0} signing keys can be used; an RSA key of 2048 bits or more (RS256), or a key on curve P-256 \
         (ES256) or P-384 (ES384) is needed"
    )]
    NoneUsable(usize),
}

/// An algorithm that Kubernetes signs tokens with. It also knows ES512, which ring does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    Es384,
}

impl Algorithm {
    /// As a header names it (RFC 7518, section 3.1).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }
}

/// One public key, good for one algorithm.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Curve(UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    /// Tells whether the holder of the private key signed the message.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::Curve(key) => key.verify(message, signature),
        };
        verified.is_ok()
    }
}

/// Keys by their id.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// What they were read from.
    text: String,
    keys: HashMap<String, Key>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// RFC 7517, section 4, and RFC 7518, section 6.
#[derive(Deserialize)]
struct WebKey {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a key set. Keys that cannot be used are left out and logged.
    pub(super) fn parse(text: &str) -> Result<Self, KeysError> {
        let set: KeySet = serde_json::from_str(text)?;
        let count = set.keys.len();
        let mut keys = HashMap::new();
        for value in set.keys {
            match WebKey::deserialize(value)
                .map_err(|error| error.to_string())
                .and_then(WebKey::usable)
            {
                Ok((id, key)) => drop(keys.insert(id, key)),
                Err(reason) => {
                    tracing::warn!(%reason, "A signing key of the API server cannot be used");
                }
            }
        }
        if keys.is_empty() {
            return Err(KeysError::NoneUsable(count));
        }
        Ok(Self {
            text: text.to_owned(),
            keys,
        })
    }

    pub(super) fn are_from(&self, text: &str) -> bool {
        self.text == text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }
}

impl WebKey {
    fn usable(self) -> Result<(String, Key), String> {
        let key = self
            .key()
            .map_err(|reason| format!("key '{}' {reason}", self.kid))?;
        Ok((self.kid, key))
    }

    fn key(&self) -> Result<Key, String> {
        if let Some(other) = self.purpose.as_deref().filter(|purpose| *purpose != "sig") {
            return Err(format!("is for '{other}', not for signatures"));
        }
        let (algorithm, material) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Algorithm::Rs256, self.rsa()?),
            ("EC", Some("P-256")) => {
                let point = self.point(32)?;
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                (Algorithm::Es256, Material::Curve(key))
            }
            ("EC", Some("P-384")) => {
                let point = self.point(48)?;
                let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
                (Algorithm::Es384, Material::Curve(key))
            }
            (kind, curve) => {
                return Err(format!("is of kind '{kind}' {}", curve.unwrap_or_default()));
            }
        };
        match self.alg.as_deref() {
            Some(other) if other != algorithm.name() => Err(format!("is for algorithm '{other}'")),
            _ => Ok(Key {
                algorithm,
                material,
            }),
        }
    }

    fn rsa(&self) -> Result<Material, String> {
        let (n, e) = (number("n", self.n.as_ref())?, number("e", self.e.as_ref())?);
        if !MODULUS_LENGTHS.contains(&n.len()) {
            return Err(format!("has {} bits, not 2048 to 8192", 8 * n.len()));
        }
        Ok(Material::Rsa(RsaPublicKeyComponents { n, e }))
    }

    /// As SEC 1 writes an uncompressed point, section 2.3.3.
    fn point(&self, length: usize) -> Result<Vec<u8>, String> {
        let (x, y) = (number("x", self.x.as_ref())?, number("y", self.y.as_ref())?);
        if x.len() != length || y.len() != length {
            return Err(format!("has coordinates that are not {length} bytes long"));
        }
        Ok([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn number(name: &str, value: Option<&String>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("has no '{name}'"))?;
    URL_SAFE_NO_PAD
        .decode(value)
        .map_err(|error| format!("has an unreadable '{name}': {error}"))
}

#[cfg(test)]
mod tests;
