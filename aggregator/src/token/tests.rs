//! Who is believed, and what the others are told.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    testing::{Signer, key_set, message, rfc7515},
    *,
};

const AUDIENCE: &str = "stillwake-aggregator";

/// When the tokens were made, in seconds since 1970.
const BEGIN: u64 = 1_800_000_000;

/// An aggregator's side with one key, and a clock that tests move.
struct World {
    tokens: PodTokens,
    signer: Signer,
    now: Arc<AtomicU64>,
}

impl World {
    fn with(signer: Signer) -> Self {
        let now = Arc::new(AtomicU64::new(BEGIN));
        let clock = Arc::clone(&now);
        let activators = [ServiceAccount {
            namespace: "stillwake-system".to_owned(),
            name: "stillwake-activator".to_owned(),
        }];
        let tokens = PodTokens::with_clock(AUDIENCE, activators, move || {
            UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))
        });
        tokens.set_keys(&key_set(&[signer.web_key()])).unwrap();
        Self {
            tokens,
            signer,
            now,
        }
    }

    fn new() -> Self {
        Self::with(Signer::p256("one"))
    }

    fn at(&self, seconds: u64) {
        self.now.store(seconds, Ordering::Relaxed);
    }

    fn identify(&self, hello: &Hello) -> Result<Identity, TokenError> {
        self.tokens.identify(hello).map_err(|denied| match denied {
            Denied::Token(error) => error,
            other => panic!("{other}"),
        })
    }

    /// What a hello of the token's own pod meets.
    fn meets(&self, token: String) -> Result<Identity, TokenError> {
        self.identify(&Hello { token, ..hello() })
    }

    fn refuses(&self, claims: &Value) -> TokenError {
        self.meets(self.signer.token(claims)).unwrap_err()
    }
}

fn claims() -> Value {
    json!({
        "aud": [AUDIENCE],
        "exp": BEGIN + 3607,
        "iat": BEGIN,
        "iss": "https://kubernetes.default.svc.cluster.local",
        "jti": "5e1fd8a6-43a6-4c74-9b59-3a1ac8f9b1c1",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "n1"},
            "pod": {"name": "web-1", "uid": "u1"},
            "serviceaccount": {"name": "default", "uid": "s1"},
        },
        "nbf": BEGIN,
        "sub": "system:serviceaccount:shop:default",
    })
}

fn changed(path: &str, value: Value) -> Value {
    let mut claims = claims();
    *claims.pointer_mut(path).unwrap() = value;
    claims
}

fn hello() -> Hello {
    Hello {
        role: Role::Sidecar.into(),
        namespace: "shop".to_owned(),
        pod: "web-1".to_owned(),
        uid: "u1".to_owned(),
        ..Hello::default()
    }
}

#[test]
fn a_pod_is_believed_to_be_the_one_its_token_claims() {
    for signer in [Signer::rsa("a"), Signer::p256("b"), Signer::p384("c")] {
        let world = World::with(signer);
        let identity = world.meets(world.signer.token(&claims())).unwrap();
        let expected = Identity {
            role: Role::Sidecar,
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
            uid: "u1".to_owned(),
        };
        assert_eq!(identity, expected);
    }
}

#[test]
fn a_signature_of_another_key_or_over_other_words_is_refused() {
    for signer in [Signer::rsa("a"), Signer::p256("b"), Signer::p384("c")] {
        let world = World::with(signer);
        let token = world.signer.token(&claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let other = changed("/kubernetes.io/pod/uid", "u2".into()).to_string();
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(other));
        assert_eq!(world.meets(forged).unwrap_err(), TokenError::Signature);

        // Of another key that claims to be this one.
        let stranger = Signer::p256(world.signer.id);
        let header = json!({"alg": world.signer.algorithm, "kid": world.signer.id});
        let forged = stranger.sign(&header, &claims());
        assert_eq!(world.meets(forged).unwrap_err(), TokenError::Signature);
        let unsigned = format!("{message}.");
        assert_eq!(world.meets(unsigned).unwrap_err(), TokenError::Signature);
    }
}

#[test]
fn the_key_decides_on_the_algorithm() {
    let world = World::with(Signer::rsa("one"));
    for algorithm in ["none", "None", "", "HS256", "RS512", "PS256", "ES256"] {
        let header = json!({"alg": algorithm, "kid": "one"});
        // Signed by the right key, so that nothing else is wrong.
        let error = world
            .meets(world.signer.sign(&header, &claims()))
            .unwrap_err();
        let expected = TokenError::Algorithm {
            found: format!("'{algorithm}'"),
            expected: "RS256",
        };
        assert_eq!(error, expected);
    }
    // What the public key is good for if it is taken for a secret.
    let message = message(&json!({"alg": "HS256", "kid": "one"}), &claims());
    for secret in [
        rfc7515::N.as_bytes(),
        &URL_SAFE_NO_PAD.decode(rfc7515::N).unwrap(),
        world.signer.web_key().to_string().as_bytes(),
    ] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, message.as_bytes()));
        let error = world.meets(format!("{message}.{signature}")).unwrap_err();
        assert!(matches!(error, TokenError::Algorithm { .. }), "{error}");
    }
}

#[test]
fn a_token_is_good_within_its_time_and_a_minute_around_it() {
    let world = World::new();
    let token = world.signer.token(&claims());
    for good in [BEGIN - 60, BEGIN, BEGIN + 3607, BEGIN + 3607 + 59] {
        world.at(good);
        world.meets(token.clone()).unwrap();
    }
    world.at(BEGIN - 61);
    let wait = Duration::from_secs(61);
    let error = world.meets(token.clone()).unwrap_err();
    assert_eq!(error, TokenError::NotYetValid { wait });
    assert!(error.to_string().contains("1m 1s"), "{error}");
    world.at(BEGIN + 3607 + 60);
    let ago = Duration::from_mins(1);
    let error = world.meets(token).unwrap_err();
    assert_eq!(error, TokenError::Expired { ago });
    assert!(error.to_string().contains("1m ago"), "{error}");
    let never = changed("/exp", u64::MAX.into());
    world.meets(world.signer.token(&never)).unwrap();
}

#[test]
fn our_audience_must_be_among_those_of_the_token() {
    let world = World::new();
    for good in [json!(AUDIENCE), json!(["a", AUDIENCE])] {
        let token = world.signer.token(&changed("/aud", good));
        world.meets(token).unwrap();
    }
    for bad in [
        json!([]),
        json!(["https://kubernetes.default.svc"]),
        json!("stillwake-aggregator-2"),
        json!(["a", "Stillwake-Aggregator"]),
    ] {
        let error = world.refuses(&changed("/aud", bad));
        assert!(matches!(error, TokenError::Audience { .. }), "{error}");
        assert!(error.to_string().contains(AUDIENCE), "{error}");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("aud");
    let error = world.refuses(&without);
    assert!(matches!(error, TokenError::Audience { .. }), "{error}");
}

#[test]
fn a_token_that_is_bound_to_no_pod_is_refused() {
    let world = World::new();
    let kubernetes = json!({
        "namespace": "shop",
        "secret": {"name": "token", "uid": "t1"},
        "serviceaccount": {"name": "default", "uid": "s1"},
    });
    for claims in [
        changed("/kubernetes.io", kubernetes),
        changed("/kubernetes.io", Value::Null),
        changed("/kubernetes.io/pod", Value::Null),
    ] {
        assert_eq!(world.refuses(&claims), TokenError::NotOfPod);
    }
}

#[test]
fn a_reporter_speaks_for_its_own_pod_only() {
    let world = World::new();
    let token = world.signer.token(&claims());
    for field in ["namespace", "pod", "uid"] {
        let mut hello = Hello {
            token: token.clone(),
            ..hello()
        };
        let changed = match field {
            "namespace" => &mut hello.namespace,
            "pod" => &mut hello.pod,
            _ => &mut hello.uid,
        };
        "other".clone_into(changed);
        let message = world.identify(&hello).unwrap_err().to_string();
        let said = format!("the hello's {field} is 'other'");
        assert!(message.contains(&said), "{message}");
    }
}

#[test]
fn only_a_pod_of_the_activators_account_is_an_activator() {
    let world = World::new();
    let as_activator = |namespace: &str, account: &str| {
        let mut claims = changed("/kubernetes.io/namespace", namespace.into());
        claims["kubernetes.io"]["serviceaccount"]["name"] = account.into();
        let hello = Hello {
            role: Role::Activator.into(),
            namespace: namespace.to_owned(),
            token: world.signer.token(&claims),
            ..hello()
        };
        world.identify(&hello).map(|identity| identity.role)
    };
    let own = as_activator("stillwake-system", "stillwake-activator");
    assert_eq!(own, Ok(Role::Activator));
    for (namespace, account) in [
        ("shop", "stillwake-activator"),
        ("stillwake-system", "default"),
    ] {
        let error = as_activator(namespace, account).unwrap_err();
        assert!(matches!(error, TokenError::NotActivator(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("{namespace}/{account}")),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_token_is_refused_with_what_is_wrong() {
    let world = World::new();
    let error = world.meets(String::new()).unwrap_err();
    assert!(matches!(error, TokenError::Missing { .. }), "{error}");
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = |claims: &str| {
        let message = format!(
            "{}.{}",
            encoded(r#"{"alg":"ES256","kid":"one"}"#),
            encoded(claims)
        );
        message + "."
    };
    for (token, part) in [
        ("abc".to_owned(), "less than three parts"),
        ("a.b".to_owned(), "less than three parts"),
        ("!.b.c".to_owned(), "header is not base64url"),
        (format!("{}.b.c", encoded("[]")), "header cannot be read"),
        (
            format!("{}.b.c", encoded(r#"{"alg":"none"}"#)),
            "missing field `kid`",
        ),
        (
            format!(
                "{}.b.c",
                encoded(r#"{"alg":"ES256","kid":"one","crit":["b64"]}"#)
            ),
            "asks for extensions",
        ),
        (signed("{}") + "!", "signature is not base64url"),
    ] {
        let error = world.meets(token).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)), "{error}");
        assert!(
            error.to_string().contains(part),
            "{part} is missing from: {error}"
        );
    }
    for (path, value) in [
        ("/exp", Value::Null),
        ("/nbf", json!("0")),
        ("/aud", json!(7)),
    ] {
        let error = world.refuses(&changed(path, value));
        assert!(
            error.to_string().contains("payload cannot be read"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_and_the_reporter_may_come_again() {
    let world = World::new();
    // A notification that came is there at once.
    let is_asked = async |tokens: &PodTokens| {
        let asked = tokens.wants_keys();
        timeout(Duration::ZERO, asked.notified()).await.is_ok()
    };
    let fresh = PodTokens::new(AUDIENCE, []);
    let hello = Hello {
        token: world.signer.token(&claims()),
        ..hello()
    };
    let denied = fresh.identify(&hello).unwrap_err();
    assert!(
        matches!(denied, Denied::Token(TokenError::NoKeys)),
        "{denied}"
    );
    assert!(is_asked(&fresh).await);

    let next = Signer::p256("two");
    let token = next.token(&claims());
    let error = world.meets(token.clone()).unwrap_err();
    let key = "'two'".to_owned();
    assert_eq!(error, TokenError::UnknownKey { key });
    assert!(is_asked(&world.tokens).await);
    world.meets(String::new()).unwrap_err();
    world.refuses(&changed("/aud", json!("other")));
    let asked = is_asked(&world.tokens).await;
    assert!(!asked, "only an unknown key asks for keys");

    let both = key_set(&[world.signer.web_key(), next.web_key()]);
    world.tokens.set_keys(&both).unwrap();
    world.meets(token.clone()).unwrap();
    world.tokens.set_keys("{}").unwrap_err();
    world.meets(token).unwrap();
    world.tokens.set_keys(&key_set(&[next.web_key()])).unwrap();
    let error = world.refuses(&claims());
    assert!(matches!(error, TokenError::UnknownKey { .. }), "{error}");
}

#[tokio::test]
async fn whoever_waits_for_keys_hears_of_the_first() {
    let tokens = PodTokens::new(AUDIENCE, []);
    let mut waits = Box::pin(tokens.keys_known());
    assert!(timeout(Duration::ZERO, waits.as_mut()).await.is_err());
    let keys = key_set(&[Signer::p256("one").web_key()]);
    tokens.set_keys(&keys).unwrap();
    assert!(timeout(Duration::ZERO, waits).await.is_ok());
    tokens.keys_known().await;
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let account = ServiceAccount {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
    };
    let text = String::new;
    let errors = [
        TokenError::Missing { audience: text() },
        TokenError::Malformed(text()),
        TokenError::NoKeys,
        TokenError::UnknownKey { key: text() },
        TokenError::Algorithm {
            found: text(),
            expected: "",
        },
        TokenError::Signature,
        TokenError::Expired { ago: LEEWAY },
        TokenError::NotYetValid { wait: LEEWAY },
        TokenError::Audience {
            found: text(),
            expected: text(),
        },
        TokenError::NotOfPod,
        TokenError::OtherPod {
            field: "",
            said: text(),
            proven: text(),
        },
        TokenError::NotActivator(account),
    ];
    let names: std::collections::BTreeSet<_> = errors.iter().map(TokenError::reason).collect();
    assert_eq!(names.len(), errors.len());
}
