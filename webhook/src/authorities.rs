//! Which authorities sidecars are told to trust. Who keeps them, and renews them, is for the caller.

use std::sync::Arc;

/// Knows the authorities that vouch for the aggregators. They change while pods come and go, so they are asked for at each
/// admission.
pub trait Authorities: Send + Sync + 'static {
    /// Returns what sidecars should trust from now on; `None` if that is not known, or what is known may be out of date.
    /// Answers from memory: an admission waits for it.
    fn bundle(&self) -> Option<Bundle>;
}

impl<F> Authorities for F
where
    F: Fn() -> Option<Bundle> + Send + Sync + 'static,
{
    fn bundle(&self) -> Option<Bundle> {
        self()
    }
}

/// Authorities that vouch for the aggregators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Their certificates as PEM.
    pub pem: Arc<str>,
    /// What they are called in the annotation [`AUTHORITIES`](crate::names::AUTHORITIES) of pods.
    pub name: Arc<str>,
}

/// Longest text that is given to a sidecar, in bytes. Linux starts no program with a variable of 128 KiB, and ours has a
/// few certificates.
const LONGEST: usize = 64 << 10;

/// Reasons why a sidecar cannot be told whom to trust. It would report in plain text then, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// There is nothing to tell.
    #[error(
        "which authorities vouch for the aggregators is not known yet, or what is known may be out of date"
    )]
    Unknown,
    /// What is known names no authority.
    #[error("what should be the authorities' certificates as PEM holds no certificate")]
    Empty,
    /// What is known does not fit.
    #[error(
        "the authorities' certificates are longer than the {LONGEST} bytes that a sidecar can be given"
    )]
    TooLong,
}

/// Returns a bundle that a sidecar can be told.
///
/// # Errors
///
/// Fails where the sidecar would end at its start, and its pod with it.
pub(crate) fn told(bundle: Option<&Bundle>) -> Result<&Bundle, Untold> {
    match bundle {
        None => Err(Untold::Unknown),
        Some(bundle) if !bundle.pem.contains("-----BEGIN CERTIFICATE-----") => Err(Untold::Empty),
        Some(bundle) if bundle.pem.len() > LONGEST => Err(Untold::TooLong),
        Some(bundle) => Ok(bundle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(pem: &str) -> Result<(), Untold> {
        let (pem, name) = (pem.into(), "one".into());
        told(Some(&Bundle { pem, name })).map(|_| ())
    }

    #[test]
    fn only_what_a_sidecar_can_take_is_told() {
        assert_eq!(told(None), Err(Untold::Unknown));
        for empty in ["", "\n", "-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(told_of(empty), Err(Untold::Empty), "{empty:?}");
        }
        let certificate = "-----BEGIN CERTIFICATE-----\n".to_owned();
        assert_eq!(told_of(&certificate), Ok(()));
        let long = certificate + &"A".repeat(LONGEST);
        assert_eq!(told_of(&long), Err(Untold::TooLong));
    }
}
