//! Identity by projected service-account token: whose pod a reporter is, proven by the API server's signature.
//!
//! Asks nobody: the keys are handed in. What a token of a pod that is gone would claim until it expires is no load,
//! because membership knows no such pod.

mod claims;
mod keys;
#[cfg(test)]
mod testing;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stillwake_proto::report::{Hello, Role};
use tokio::sync::{Notify, watch};

pub use self::keys::KeysError;
use self::{
    claims::{Claims, Token},
    keys::Keys,
};
use crate::identity::{Denied, Identify, Identity, Quoted};

/// How far the API server's clock and ours may be apart: what the API server itself allows when it reviews a token
/// (go-jose's `DefaultLeeway`). RFC 7519, section 4.1.4, has "no more than a few minutes".
const LEEWAY: Duration = Duration::from_mins(1);

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceAccount {
    /// Writes `namespace/name`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Reasons why a token does not prove what the hello says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The hello carries none.
    #[error(
        "the hello carries no token; it takes a projected service-account token of audience '{audience}'"
    )]
    Missing {
        /// The audience that is needed.
        audience: String,
    },
    /// It is not a signed JSON web token.
    #[error("the token is no signed JSON web token: {0}")]
    Malformed(String),
    /// We have not been handed the API server's keys.
    #[error("the API server's signing keys are not known yet")]
    NoKeys,
    /// The API server publishes no such key, or did not when we asked last.
    #[error("the token is signed with key {key}, which is none of the API server's")]
    UnknownKey {
        /// Its id.
        key: String,
    },
    /// The header names another algorithm than the key is for.
    #[error("the token's header says algorithm {found}, its key is for {expected}")]
    Algorithm {
        /// What the header says.
        found: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// The key did not sign this.
    #[error("the token's signature is wrong")]
    Signature,
    /// It has run out.
    #[error("the token expired {} ago", humantime::format_duration(*.ago))]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// It is for later.
    #[error("the token is valid only in {}; compare the clocks of this node and the API server's", humantime::format_duration(*.wait))]
    NotYetValid {
        /// How much later.
        wait: Duration,
    },
    /// It is for somebody else.
    #[error("the token is for audience {found}, not for '{expected}'")]
    Audience {
        /// Whom it is for.
        found: String,
        /// Who we are.
        expected: String,
    },
    /// It says nothing of a pod.
    #[error("the token is not bound to a pod; it takes one that the kubelet projects into the pod")]
    NotOfPod,
    /// The hello speaks for another pod.
    #[error(
        "the hello's {field} is {said}, the token's '{proven}'; a reporter speaks for its own pod only"
    )]
    OtherPod {
        /// What differs.
        field: &'static str,
        /// What the hello says.
        said: String,
        /// What the token says.
        proven: String,
    },
    /// Its service account may not speak as an activator.
    #[error("the token is of service account {0}, which is not that of the activators")]
    NotActivator(ServiceAccount),
}

impl TokenError {
    /// As metrics name it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "token_missing",
            Self::Malformed(_) => "token_malformed",
            Self::NoKeys => "token_keys_unknown",
            Self::UnknownKey { .. } => "token_key_unknown",
            Self::Algorithm { .. } => "token_algorithm",
            Self::Signature => "token_signature",
            Self::Expired { .. } => "token_expired",
            Self::NotYetValid { .. } => "token_not_yet_valid",
            Self::Audience { .. } => "token_audience",
            Self::NotOfPod => "token_not_of_pod",
            Self::OtherPod { .. } => "token_other_pod",
            Self::NotActivator(_) => "token_not_activator",
        }
    }
}

/// Believes a hello as far as its projected service-account token proves it. Clones share everything.
///
/// Every pod may speak as its own sidecar; only pods of the given service accounts as activators. A token is looked at
/// once, when its reporter connects. Until [`set_keys`](Self::set_keys) nobody is believed; reporters come again by
/// themselves.
#[derive(Clone)]
pub struct PodTokens {
    shared: Arc<Shared>,
}

struct Shared {
    audience: String,
    activators: Vec<ServiceAccount>,
    keys: watch::Sender<Keys>,
    wants_keys: Arc<Notify>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl fmt::Debug for PodTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.shared.keys.borrow();
        formatter
            .debug_struct("PodTokens")
            .field("audience", &self.shared.audience)
            .field("activators", &self.shared.activators)
            .field("keys", &keys.ids().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl PodTokens {
    /// Takes tokens of `audience`, and pods of `activators` for activators.
    pub fn new(
        audience: impl Into<String>,
        activators: impl IntoIterator<Item = ServiceAccount>,
    ) -> Self {
        Self::with_clock(audience, activators, SystemTime::now)
    }

    fn with_clock(
        audience: impl Into<String>,
        activators: impl IntoIterator<Item = ServiceAccount>,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                audience: audience.into(),
                activators: activators.into_iter().collect(),
                keys: watch::Sender::default(),
                wants_keys: Arc::default(),
                clock: Box::new(clock),
            }),
        }
    }

    /// Takes the API server's keys, the whole document of its `/openid/v1/jwks`, in place of those from before. Keys
    /// that cannot be used are left out and logged. The same document again changes nothing.
    ///
    /// # Errors
    ///
    /// Says why no key of the document can be used; the keys from before stay.
    pub fn set_keys(&self, jwks: &str) -> Result<(), KeysError> {
        if self.shared.keys.borrow().are_from(jwks) {
            return Ok(());
        }
        let keys = Keys::parse(jwks)?;
        tracing::info!(keys = ?keys.ids().collect::<Vec<_>>(), "Took the API server's signing keys");
        self.shared.keys.send_replace(keys);
        Ok(())
    }

    /// Returns what is notified when a token came whose key is not known: the API server may have a new one, and the
    /// keys should be fetched. Notifications meanwhile are one. Whoever fetches must bound how often, as anybody who
    /// reaches the port can send such a token.
    pub fn wants_keys(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.wants_keys)
    }

    /// Waits until there are keys. Whoever serves reporters before turns all of them away, and each comes again only
    /// after a pause that grows with every failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn keys_known(&self) {
        let mut keys = self.shared.keys.subscribe();
        // Fails only without a sender, which is ours.
        let _ = keys.wait_for(|keys| !keys.is_empty()).await;
    }

    fn claims(&self, text: &str) -> Result<Claims, TokenError> {
        if text.is_empty() {
            let audience = self.shared.audience.clone();
            return Err(TokenError::Missing { audience });
        }
        let token = Token::parse(text)?;
        let keys = self.shared.keys.borrow();
        if keys.is_empty() {
            return Err(TokenError::NoKeys);
        }
        let key = keys.get(&token.key).ok_or_else(|| TokenError::UnknownKey {
            key: Quoted(&token.key).to_string(),
        })?;
        token.verify(key)
    }

    fn in_time(&self, claims: &Claims) -> Result<(), TokenError> {
        let now = (self.shared.clock)()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Whole seconds, as the claims are.
        let now = Duration::from_secs(now.as_secs());
        let ago = now.saturating_sub(claims.expires());
        if ago >= LEEWAY {
            return Err(TokenError::Expired { ago });
        }
        let wait = claims.not_before().saturating_sub(now);
        if wait > LEEWAY {
            return Err(TokenError::NotYetValid { wait });
        }
        Ok(())
    }

    fn prove(&self, hello: &Hello) -> Result<Identity, TokenError> {
        let claims = self.claims(&hello.token)?;
        self.in_time(&claims)?;
        if !claims.is_for(&self.shared.audience) {
            return Err(TokenError::Audience {
                found: claims.audiences(),
                expected: self.shared.audience.clone(),
            });
        }
        let pod = claims.pod().ok_or(TokenError::NotOfPod)?;
        for (field, said, proven) in [
            ("namespace", &hello.namespace, &pod.account.namespace),
            ("pod", &hello.pod, &pod.name),
            ("uid", &hello.uid, &pod.uid),
        ] {
            if said != proven {
                return Err(TokenError::OtherPod {
                    field,
                    said: Quoted(said).to_string(),
                    proven: proven.clone(),
                });
            }
        }
        let role = hello.role();
        if role == Role::Activator && !self.shared.activators.contains(&pod.account) {
            return Err(TokenError::NotActivator(pod.account));
        }
        Ok(Identity {
            role,
            namespace: pod.account.namespace,
            pod: pod.name,
            uid: pod.uid,
        })
    }
}

impl Identify for PodTokens {
    fn identify(&self, hello: &Hello) -> Result<Identity, Denied> {
        let proven = self.prove(hello);
        if let Err(TokenError::NoKeys | TokenError::UnknownKey { .. }) = &proven {
            self.shared.wants_keys.notify_one();
        }
        Ok(proven?)
    }
}

#[cfg(test)]
mod tests;
