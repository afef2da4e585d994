//! Which requests are no traffic: probes, scrapes and what the user excludes.
//!
//! Only for counting; ignored requests are relayed like any other.

/// Says which requests are not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRules {
    /// Requests whose target begins with one of these are ignored. Compared byte for byte with the target as sent,
    /// path and query.
    pub path_prefixes: Vec<String>,
    /// Requests whose `User-Agent` begins with one of these are ignored. Compared byte for byte.
    pub user_agent_prefixes: Vec<String>,
}

impl IgnoreRules {
    /// Returns rules that ignore nothing.
    pub const fn none() -> Self {
        Self {
            path_prefixes: Vec::new(),
            user_agent_prefixes: Vec::new(),
        }
    }

    /// Whether no request is ignored.
    pub fn is_empty(&self) -> bool {
        self.path_prefixes.is_empty() && self.user_agent_prefixes.is_empty()
    }

    /// Whether a request for `target` from `user_agent` (empty if it has none) is ignored.
    pub fn ignores(&self, target: &str, user_agent: &[u8]) -> bool {
        self.ignores_user_agent(&user_agent.iter().copied()) || self.ignores_target(&target.bytes())
    }

    /// Whether all requests for `target` are ignored. Takes no more of it than tells.
    pub(crate) fn ignores_target(&self, target: &(impl Iterator<Item = u8> + Clone)) -> bool {
        any_begins(&self.path_prefixes, target)
    }

    /// Whether all requests from `user_agent` are ignored. Takes no more of it than tells.
    pub(crate) fn ignores_user_agent(
        &self,
        user_agent: &(impl Iterator<Item = u8> + Clone),
    ) -> bool {
        any_begins(&self.user_agent_prefixes, user_agent)
    }
}

fn any_begins(prefixes: &[String], value: &(impl Iterator<Item = u8> + Clone)) -> bool {
    prefixes.iter().any(|prefix| {
        let mut value = value.clone();
        prefix.bytes().all(|byte| value.next() == Some(byte))
    })
}

/// The kubelet's probes (`kube-probe/<version>`) and Prometheus' scrapes (`Prometheus/<version>`).
impl Default for IgnoreRules {
    fn default() -> Self {
        Self {
            path_prefixes: Vec::new(),
            user_agent_prefixes: vec!["kube-probe/".to_owned(), "Prometheus/".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_and_scrapes_are_ignored_by_default_and_nothing_else_is() {
        let rules = IgnoreRules::default();
        assert!(rules.ignores("/", b"kube-probe/1.33"));
        assert!(rules.ignores("/metrics", b"Prometheus/3.5.0"));
        assert!(!rules.ignores("/metrics", b"curl/8.5.0"));
        assert!(!rules.ignores("/kube-probe/", b""));
        assert!(!IgnoreRules::none().ignores("/", b"kube-probe/1.33"));
        assert!(IgnoreRules::none().is_empty() && !rules.is_empty());
    }

    #[test]
    fn a_path_rule_matches_by_prefix() {
        let rules = IgnoreRules {
            path_prefixes: vec!["/healthz".to_owned()],
            ..IgnoreRules::default()
        };
        assert!(rules.ignores("/healthz?full=1", b""));
        assert!(!rules.ignores("/api/healthz", b""));
    }
}
