//! What several tests need: a calendar, quick settings, and a client that verifies as rustls does.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use stillwake_runtime::tls::provider;

use crate::{
    leaf::{LeafRequest, Purpose},
    rotation::Settings,
    trust::Bundle,
};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// The name that all test servers have.
pub(crate) const NAME: &str = "hook.system.svc";

/// Returns the moment `after` the beginning of all tests.
pub(crate) fn at(after: Duration) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + after
}

/// Authorities of eight hours, leaves of one.
pub(crate) fn quick() -> Settings {
    let settings = Settings {
        authority_lifetime: HOUR * 8,
        leaf_lifetime: HOUR,
        settle: MINUTE * 5,
        clock_skew: MINUTE,
    };
    settings.validate().unwrap();
    settings
}

pub(crate) fn request(lifetime: Duration) -> LeafRequest {
    LeafRequest::new([NAME.to_owned()], Purpose::Server, lifetime).unwrap()
}

/// Returns what a client that trusts `bundle` says to `chain` at `now`.
pub(crate) fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &Bundle,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let roots = Arc::new(bundle.roots().unwrap());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap());
    verifier
        .build()
        .unwrap()
        .verify_server_cert(
            &chain[0],
            &chain[1..],
            &ServerName::try_from(NAME).unwrap(),
            &[],
            UnixTime::since_unix_epoch(since_epoch),
        )
        .map(drop)
}
