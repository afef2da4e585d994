//! What an authority signs, as a rustls client sees it.

use super::*;
use crate::{
    testing::{HOUR, MINUTE, at, request, verify},
    trust::Bundle,
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

fn bundle(authority: &Authority) -> Bundle {
    Bundle::from_pem(authority.certificate_pem(), "the test").unwrap()
}

#[test]
fn a_leaf_is_verified_by_its_authority_and_by_no_other() {
    let authority = Authority::create(HOUR * 8, at(HOUR)).unwrap();
    let other = Authority::create(HOUR * 8, at(HOUR)).unwrap();
    let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
    verify(leaf.chain(), &bundle(&authority), at(HOUR)).unwrap();
    verify(leaf.chain(), &bundle(&other), at(HOUR)).unwrap_err();
    assert_eq!(leaf.issuer(), authority.certificate().fingerprint());
}

#[test]
fn a_leaf_is_valid_on_late_clocks_and_ends_with_its_life_or_its_authority() {
    let authority = Authority::create(HOUR * 2, at(HOUR)).unwrap();
    let trusted = bundle(&authority);
    let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
    verify(leaf.chain(), &trusted, at(MINUTE)).unwrap();
    verify(leaf.chain(), &trusted, at(HOUR * 2 + MINUTE)).unwrap_err();
    let last = authority.issue(&request(HOUR * 5), at(HOUR * 2)).unwrap();
    assert_eq!(
        last.validity().not_after,
        authority.certificate().validity().not_after
    );
}

#[test]
fn an_authority_that_was_read_again_signs_the_same() {
    let made = Authority::create(HOUR * 8, at(HOUR)).unwrap();
    let read = Authority::from_pem(made.certificate_pem(), &made.key_pem(), "the test").unwrap();
    let leaf = read.issue(&request(HOUR), at(HOUR)).unwrap();
    verify(leaf.chain(), &bundle(&made), at(HOUR)).unwrap();
}

#[test]
fn a_link_leads_from_the_predecessor_to_the_successor_until_the_predecessor_ends() {
    let old = Authority::create(HOUR * 4, at(HOUR)).unwrap();
    // As after a restart: what was read again must vouch as well.
    let old = Authority::from_pem(old.certificate_pem(), &old.key_pem(), "the test").unwrap();
    let (new, link) = old.succeed(HOUR * 8, at(HOUR * 2)).unwrap();
    let link = Certificate::authority_from_pem(&link, "the link").unwrap();
    assert_eq!(
        link.validity().not_after,
        old.certificate().validity().not_after
    );

    let mut chain = new
        .issue(&request(HOUR * 6), at(HOUR * 2))
        .unwrap()
        .chain()
        .to_vec();
    verify(&chain, &bundle(&new), at(HOUR * 2)).unwrap();
    verify(&chain, &bundle(&old), at(HOUR * 2)).unwrap_err();
    chain.push(link.der().clone());
    verify(&chain, &bundle(&new), at(HOUR * 6)).unwrap();
    verify(&chain, &bundle(&old), at(HOUR * 2)).unwrap();
    verify(&chain, &bundle(&old), at(HOUR * 6)).unwrap_err();
}

#[test]
fn certificates_say_what_they_may_be_used_for() {
    let authority = Authority::create(HOUR * 8, at(HOUR)).unwrap();
    let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
    let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    let names = parsed.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names.len(), 1);
    let identified = |extension: &ParsedExtension<'_>| {
        matches!(extension, ParsedExtension::AuthorityKeyIdentifier(_))
    };
    let mut extensions = parsed.extensions().iter();
    assert!(extensions.any(|extension| identified(extension.parsed_extension())));

    let (_, parsed) = X509Certificate::from_der(authority.certificate().der()).unwrap();
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
}

#[test]
fn no_two_certificates_share_a_number() {
    let authority = Authority::create(HOUR * 8, at(HOUR)).unwrap();
    let number = || {
        let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
        let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
        parsed.tbs_certificate.raw_serial().to_vec()
    };
    let (one, other) = (number(), number());
    assert_ne!(one, other);
    assert!(one.len() >= 15 && one[0] < 0x80, "{one:?}");
}

#[test]
fn a_key_that_does_not_belong_is_refused() {
    let one = Authority::create(HOUR, at(HOUR)).unwrap();
    let other = Authority::create(HOUR, at(HOUR)).unwrap();
    let error = |key: &str| {
        let read = Authority::from_pem(one.certificate_pem(), key, "the Secret");
        read.unwrap_err().to_string()
    };
    let mismatch = error(&other.key_pem());
    assert!(mismatch.contains("do not belong together"), "{mismatch}");
    let none = error("no key");
    assert!(none.contains("the Secret holds no usable"), "{none}");
}

#[test]
fn a_life_that_no_certificate_can_express_is_refused() {
    for lifetime in [Duration::MAX, HOUR * 24 * 366 * 8000] {
        let error = Authority::create(lifetime, at(HOUR)).unwrap_err();
        assert!(matches!(error, SigningError::Lifetime { .. }), "{error}");
    }
    let error = Authority::create(HOUR, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(error.to_string().contains("is the clock right"), "{error}");
}

#[test]
fn a_key_is_not_shown() {
    let authority = Authority::create(HOUR, at(HOUR)).unwrap();
    let key = authority.key_pem();
    let line = key.lines().nth(1).unwrap();
    assert!(!format!("{authority:?}").contains(line));
}
