//! Which scaler addresses are ours.

/// The Service that triggers of ours name in `scalerAddress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalerService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
}

impl ScalerService {
    /// Whether `address`, as a `ScaledObject` in `namespace` writes it, names this Service.
    ///
    /// The address is a gRPC target: `host:port`, or the same with a scheme as in `dns:///host:port`. Its host may be
    /// `NAME.NAMESPACE`, `NAME.NAMESPACE.svc` or `NAME.NAMESPACE.svc.DOMAIN`, with or without the dot at the end, and
    /// in the Service's own namespace `NAME` alone. The port does not matter.
    pub fn is_named_by(&self, address: &str, namespace: &str) -> bool {
        let host = host(address);
        // Names in DNS know no case.
        let Some(rest) = strip_prefix(host, &self.name) else {
            return false;
        };
        if rest.is_empty() {
            return namespace == self.namespace;
        }
        let rest = rest
            .strip_prefix('.')
            .and_then(|rest| strip_prefix(rest, &self.namespace));
        match rest.and_then(|rest| rest.strip_prefix('.').or(rest.is_empty().then_some(""))) {
            Some("") => true,
            Some(rest) => {
                let domain = self.cluster_domain.trim_end_matches('.');
                strip_prefix(rest, "svc").is_some_and(|rest| {
                    rest.is_empty()
                        || rest
                            .strip_prefix('.')
                            .is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
                })
            }
            None => false,
        }
    }
}

/// Returns the host of a gRPC target, without the dot at its end.
fn host(address: &str) -> &str {
    let target = address.trim();
    let named = ["dns:", "passthrough:"]
        .iter()
        .find_map(|scheme| strip_prefix(target, scheme));
    // After a scheme there may be an authority between slashes.
    let endpoint = named.map_or(target, |rest| {
        rest.rsplit_once('/').map_or(rest, |(_, endpoint)| endpoint)
    });
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.strip_suffix('.').unwrap_or(host)
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (begin, rest) = text.split_at_checked(prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(address: &str, namespace: &str) -> bool {
        let service = ScalerService {
            name: "scaler".to_owned(),
            namespace: "system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        };
        service.is_named_by(address, namespace)
    }

    #[test]
    fn every_name_of_the_service_is_ours() {
        for address in [
            "scaler.system:9090",
            "scaler.system.:9090",
            "scaler.system",
            "scaler.system.svc:9090",
            "scaler.system.svc.cluster.local:1",
            "scaler.system.svc.cluster.local.:9090",
            "Scaler.System.SVC.Cluster.Local:9090",
            "dns:///scaler.system:9090",
            "dns:scaler.system:9090",
            "dns://10.0.0.10/scaler.system.svc:9090",
            "passthrough:///scaler.system:9090",
            " scaler.system:9090 ",
        ] {
            assert!(ours(address, "shop"), "{address}");
        }
    }

    #[test]
    fn a_bare_name_is_ours_in_our_namespace() {
        for address in ["scaler:9090", "scaler.:9090", "scaler"] {
            assert!(ours(address, "system"), "{address}");
            assert!(!ours(address, "shop"), "{address}");
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for address in [
            "",
            ":9090",
            "other.system:9090",
            "scaler.shop:9090",
            "scalers.system:9090",
            "scaler.systems:9090",
            "scaler.system.svcs:9090",
            "scaler.system.svc.other.local:9090",
            "scaler.system.cluster.local:9090",
            "scaler.system.svc.cluster.local.example.com:9090",
            "my.scaler.system:9090",
            "https://scaler.system:9090",
            "scalér.system:9090",
        ] {
            assert!(!ours(address, "system"), "{address}");
        }
    }
}
