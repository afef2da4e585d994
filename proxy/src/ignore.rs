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

    /// Whether a request for `target` from `user_agent` (empty if it has none) is ignored.
    pub fn ignores(&self, target: &str, user_agent: &[u8]) -> bool {
        let by_agent = |prefix: &String| user_agent.starts_with(prefix.as_bytes());
        let by_path = |prefix: &String| target.starts_with(prefix.as_str());
        self.user_agent_prefixes.iter().any(by_agent) || self.path_prefixes.iter().any(by_path)
    }
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
