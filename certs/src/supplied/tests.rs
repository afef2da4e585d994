//! Folders as users and the kubelet fill them.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::*;
use crate::{
    authority::Authority,
    testing::{HOUR, at, request, verify},
};
use rcgen::KeyPair;

/// Makes what cert-manager would.
fn material() -> Material {
    let authority = Authority::create(HOUR * 24, at(HOUR)).unwrap();
    let leaf = authority.issue(&request(HOUR), at(HOUR)).unwrap();
    let key = KeyPair::try_from(leaf.key().secret_der()).unwrap();
    Material {
        certificate: pem(&leaf.chain()[0]),
        key: key.serialize_pem(),
        authorities: Some(authority.certificate_pem().to_owned()),
    }
}

/// Writes a certificate as PEM: base64 by OpenSSL's lines of 64 is not demanded, so one line it is.
fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0, |bits, &byte| (bits << 8) | u32::from(byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            let padding = digit > u32::try_from(chunk.len()).unwrap();
            text.push(if padding { '=' } else { DIGITS[index].into() });
        }
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn fill(folder: &Path, material: &Material) {
    fs::write(folder.join(CERTIFICATE_KEY), &material.certificate).unwrap();
    fs::write(folder.join(PRIVATE_KEY_KEY), &material.key).unwrap();
    if let Some(authorities) = &material.authorities {
        fs::write(folder.join(AUTHORITIES_KEY), authorities).unwrap();
    }
}

async fn begin(folder: &TempDir) -> Result<Supplied<Files>, SuppliedError> {
    Supplied::begin(Files::new(folder.path().to_owned())).await
}

fn whole_error(error: &SuppliedError) -> String {
    format!("{error}: {}", StdError::source(error).unwrap())
}

#[tokio::test]
async fn what_a_folder_holds_is_presented_and_followed() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (material(), material());
    fill(folder.path(), &first);
    let mut supplied = begin(&folder).await.unwrap();
    let resolver = supplied.resolver().clone();
    let verified = |supplied: &Supplied<Files>| {
        let bundle = supplied.bundle().load_full().unwrap();
        verify(&resolver.presented().cert, &bundle, at(HOUR)).unwrap();
    };
    verified(&supplied);
    let before = resolver.presented();
    assert!(!supplied.refresh().await.unwrap());
    assert!(
        Arc::ptr_eq(&before, &resolver.presented()),
        "nothing changed"
    );

    fill(folder.path(), &second);
    assert!(supplied.refresh().await.unwrap());
    assert_ne!(before.cert, resolver.presented().cert);
    verified(&supplied);
}

#[tokio::test]
async fn a_half_written_set_waits_for_its_other_half() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (material(), material());
    fill(folder.path(), &first);
    let mut supplied = begin(&folder).await.unwrap();
    let before = supplied.resolver().presented();

    fs::write(folder.path().join(CERTIFICATE_KEY), &second.certificate).unwrap();
    let error = supplied.refresh().await.unwrap_err();
    assert!(
        whole_error(&error).contains("do not belong together"),
        "{error:?}"
    );
    fs::remove_file(folder.path().join(PRIVATE_KEY_KEY)).unwrap();
    let error = supplied.refresh().await.unwrap_err();
    assert!(
        whole_error(&error).contains("has no `tls.key`"),
        "{error:?}"
    );
    assert!(Arc::ptr_eq(&before, &supplied.resolver().presented()));

    fill(folder.path(), &second);
    assert!(supplied.refresh().await.unwrap());
}

#[tokio::test]
async fn a_mounted_secret_is_followed_through_its_link() {
    let folder = TempDir::new().unwrap();
    let version = |name: &str, material: &Material| {
        let version = folder.path().join(name);
        fs::create_dir(&version).unwrap();
        fill(&version, material);
        let link = folder.path().join("..new");
        symlink(&version, &link).unwrap();
        fs::rename(&link, folder.path().join("..data")).unwrap();
    };
    version("..1", &material());
    let mut supplied = begin(&folder).await.unwrap();
    let before = supplied.resolver().presented();
    version("..2", &material());
    assert!(supplied.refresh().await.unwrap());
    assert_ne!(before.cert, supplied.resolver().presented().cert);
}

#[tokio::test]
async fn authorities_may_be_missing_or_empty() {
    for authorities in [None, Some(String::new())] {
        let folder = TempDir::new().unwrap();
        let material = Material {
            authorities,
            ..material()
        };
        fill(folder.path(), &material);
        let supplied = begin(&folder).await.unwrap();
        assert!(supplied.bundle().load().is_none());
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let good = material();
    let with = |certificate: &str, key: &str, authorities: Option<&str>| Material {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        authorities: authorities.map(str::to_owned),
    };
    let cases = [
        (with("", &good.key, None), "`tls.crt` of "),
        (with(&good.certificate, "no key", None), "`tls.key` of "),
        (
            with(&good.certificate, &good.key, Some("nobody")),
            "`ca.crt` of ",
        ),
    ];
    for (material, expected) in cases {
        let folder = TempDir::new().unwrap();
        fill(folder.path(), &material);
        let error = whole_error(&begin(&folder).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
    }
}

#[test]
fn a_key_is_not_shown() {
    let material = material();
    let line = material.key.lines().nth(1).unwrap();
    assert!(!format!("{material:?}").contains(line));
}
