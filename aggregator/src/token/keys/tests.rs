//! Which keys are taken, and what they verify.

use serde_json::json;

use super::*;
use crate::token::testing::{Signer, key_set, rfc7515};

fn refused(key: &Value) -> String {
    let key = WebKey::deserialize(key.clone()).map_err(|error| error.to_string());
    key.and_then(WebKey::usable).unwrap_err()
}

#[test]
fn the_examples_of_the_standard_are_verified() {
    // RFC 7515, appendices A.2 and A.3.
    let keys = key_set(&[
        json!({"kty": "RSA", "kid": "a2", "n": rfc7515::N, "e": rfc7515::E}),
        json!({
            "kty": "EC", "kid": "a3", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }),
    ]);
    let keys = Keys::parse(&keys).unwrap();
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (id, header, signature) in [
        (
            "a2",
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "a3",
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let message = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = keys.get(id).unwrap();
        assert!(key.signed(message.as_bytes(), &signature), "{id}");
        let changed = message.replace('J', "K");
        assert!(!key.signed(changed.as_bytes(), &signature), "{id}");
    }
}

#[test]
fn what_cannot_be_used_is_left_out_and_the_rest_is_taken() {
    let good = Signer::p256("good");
    let document = key_set(&[
        json!({"kty": "oct", "kid": "secret", "k": "AAAA"}),
        json!({"kty": "EC", "kid": "large", "crv": "P-521", "alg": "ES512", "x": "AA", "y": "AA"}),
        json!("no key"),
        good.web_key(),
    ]);
    let keys = Keys::parse(&document).unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), ["good"]);
    assert_eq!(keys.get("good").unwrap().algorithm, Algorithm::Es256);
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let changed = |field: &str, value: Value| {
        let mut key = Signer::p256("k").web_key();
        key[field] = value;
        key
    };
    let short = json!({"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"});
    let unnamed = json!({"kty": "RSA", "n": rfc7515::N, "e": rfc7515::E});
    for (key, part) in [
        (changed("use", "enc".into()), "key 'k' is for 'enc'"),
        (changed("alg", "HS256".into()), "for algorithm 'HS256'"),
        (changed("crv", "P-521".into()), "of kind 'EC' P-521"),
        (changed("kty", "oct".into()), "of kind 'oct'"),
        (changed("x", "AAAA".into()), "32 bytes"),
        (changed("x", "!".into()), "unreadable 'x'"),
        (changed("y", Value::Null), "has no 'y'"),
        (short, "24 bits"),
        (unnamed, "missing field `kid`"),
    ] {
        let message = refused(&key);
        assert!(message.contains(part), "{part} is missing from: {message}");
    }
}

#[test]
fn a_document_without_a_usable_key_is_an_error() {
    for (text, part) in [
        ("<html>", "not a JSON web key set"),
        ("{}", "missing field `keys`"),
        (r#"{"keys":[]}"#, "none of the 0"),
        (r#"{"keys":[{"kty":"oct","kid":"k"}]}"#, "none of the 1"),
    ] {
        let message = Keys::parse(text).unwrap_err().to_string();
        assert!(message.contains(part), "{part} is missing from: {message}");
    }
}
