//! Which replicas serve which Services, where there are many: rendezvous hashing, so that all come to the same answer
//! without asking each other, and a replica that comes or goes moves only its own share.

use sha2::{Digest as _, Sha256};

/// Returns whether `replica` is among the `copies` that serve a Service, if these replicas live. Where there are no more
/// of them than that, each serves all. `replica` counts as one of them whether it is listed or not.
///
/// Replicas are named by the UIDs of their pods. The answer is the same in all versions of this program.
pub fn serves<'a>(
    replica: &str,
    namespace: &str,
    service: &str,
    replicas: impl IntoIterator<Item = &'a str>,
    copies: usize,
) -> bool {
    rank(replica, &[namespace, service], replicas) < copies
}

/// Returns how many of these replicas go before `replica` where `key` is concerned.
pub(crate) fn rank<'a>(
    replica: &str,
    key: &[&str],
    replicas: impl IntoIterator<Item = &'a str>,
) -> usize {
    let own = (weight(replica, key), replica);
    let others = replicas.into_iter().filter(|other| *other != replica);
    let before = others.filter(|other| (weight(other, key), *other) > own);
    before.count()
}

fn weight(replica: &str, key: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&[replica], key].concat() {
        // Nothing that is named here has a zero in its name.
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: usize = 500;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("uid-{number}")).collect()
    }

    /// Returns which of the replicas serve each Service.
    fn shares(replicas: &[String]) -> Vec<Vec<&str>> {
        let all = || replicas.iter().map(String::as_str);
        let serving = |number: usize| {
            let service = format!("s{number}");
            all()
                .filter(|replica| serves(replica, "shop", &service, all(), 3))
                .collect()
        };
        (0..SERVICES).map(serving).collect()
    }

    #[test]
    fn every_service_has_as_many_replicas_as_asked_for() {
        for (replicas, expected) in [(1, 1), (2, 2), (3, 3), (10, 3)] {
            for share in shares(&names(replicas)) {
                assert_eq!(share.len(), expected);
            }
        }
    }

    #[test]
    fn shares_are_about_even() {
        let replicas = names(10);
        let shares = shares(&replicas);
        for replica in &replicas {
            let served = shares
                .iter()
                .filter(|share| share.contains(&replica.as_str()));
            let served = served.count();
            assert!((100..200).contains(&served), "{served} of {SERVICES}");
        }
    }

    #[test]
    fn one_that_goes_moves_its_own_share_only() {
        let before = names(10);
        let after = before[..9].to_vec();
        for (before, after) in shares(&before).into_iter().zip(shares(&after)) {
            let stay = before.iter().filter(|replica| **replica != "uid-9");
            assert!(stay.clone().all(|replica| after.contains(replica)));
            assert_eq!(after.len(), 3);
        }
    }

    #[test]
    fn a_replica_that_is_not_listed_yet_counts_itself() {
        assert!(serves("new", "shop", "web", ["a", "b"], 3));
        assert!(serves("new", "shop", "web", [], 1));
    }

    #[test]
    fn the_answer_does_not_change_with_versions() {
        let order = |service: &str| {
            let replicas = ["a", "b", "c", "d"];
            replicas.map(|replica| rank(replica, &["shop", service], replicas))
        };
        // Computed by another implementation.
        assert_eq!([order("web"), order("cart")], [[0, 2, 3, 1], [1, 2, 3, 0]]);
    }
}
