//! Texts that are certificates, and texts that are not.

use super::*;
use crate::{
    authority::Authority,
    testing::{HOUR, at, request},
};

const MADE_UP: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn error(text: &str) -> String {
    let result = Certificate::authority_from_pem(text, "the file");
    result.unwrap_err().to_string()
}

#[test]
fn a_certificate_says_when_it_is_valid_and_what_it_is() {
    let authority = Authority::create(HOUR, at(HOUR)).unwrap();
    let read = Certificate::authority_from_pem(authority.certificate_pem(), "the file").unwrap();
    assert_eq!(&read, authority.certificate());
    let validity = read.validity();
    assert_eq!(validity.not_after, at(HOUR * 2));
    assert!(validity.contains(at(HOUR)) && validity.contains(at(HOUR * 2)));
    assert!(!validity.contains(at(HOUR * 3)));
    assert!(read.may_sign());
    let text = read.fingerprint().to_string();
    assert_eq!(&text.parse::<Fingerprint>().unwrap(), read.fingerprint());
}

#[test]
fn a_text_that_is_no_certificate_is_named_with_the_reason() {
    let cases = [
        ("", "the file holds no certificate"),
        ("hello", "the file holds no certificate"),
        (MADE_UP, "certificate 1 of the file is not an X.509"),
        ("-----BEGIN CERTIFICATE-----\nAAAA", "not valid PEM"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn the_bad_one_among_several_is_numbered() {
    let authority = Authority::create(HOUR, at(HOUR)).unwrap();
    let error = error(&format!("{}{MADE_UP}", authority.certificate_pem()));
    assert!(error.contains("certificate 2 of the file"), "{error}");
}

#[test]
fn a_leaf_is_no_authority() {
    let authority = Authority::create(HOUR, at(HOUR)).unwrap();
    let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
    let read = Certificate::from_der(leaf.chain()[0].clone(), "the file", 1).unwrap();
    assert!(!read.may_sign());
}
