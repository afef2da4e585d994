//! The activator: all of it or nothing, as many as the kind says, reached by whom it is for, and kept to its own slices.

use serde_json::{Value, json};
use stillwake_e2e::chart::Release;

use crate::{
    flags,
    rendered::{CASES, NAMESPACE, Rendered, case, render},
};

/// The cases that have one.
fn cases() -> impl Iterator<Item = (&'static str, &'static Rendered)> {
    CASES
        .iter()
        .map(|(case, rendered)| (case.name, rendered))
        .filter(|(_, rendered)| {
            rendered
                .components()
                .any(|component| component == "activator")
        })
}

#[test]
fn without_it_nothing_of_it_is_there_and_nobody_is_told_of_it() {
    assert_eq!(cases().count(), CASES.len() - 1);
    let without = case("no activator");
    for object in &without.objects {
        assert!(!object.to_string().contains("activator"), "{object}");
    }
    assert!(!without.arguments("webhook").contains_key("sidecar-linger"));
    for flag in ["activator", "sidecar-linger"] {
        assert!(case("defaults").arguments("webhook").contains_key(flag));
    }
}

#[test]
fn sidecars_and_aggregators_know_it_by_its_service_and_account() {
    for (what, rendered) in cases() {
        let activator = rendered.arguments("activator");
        let webhook = rendered.arguments("webhook");
        let aggregator = rendered.arguments("aggregator");

        let domain = &activator["cluster-domain"][0];
        let address = &webhook["activator"][0];
        let name = address.split('.').next().unwrap();
        let service = rendered.service(name);
        assert_eq!(
            *address,
            format!("{name}.{NAMESPACE}.svc.{domain}.:{}", service.ports[0]),
            "{what}"
        );
        let relay = flags::port(&activator["relay"][0]);
        rendered.assert_reaches(&service, "activator", &[relay]);
        assert!(!service.headless && !service.with_unready, "{what}");

        let account = &rendered.pod("activator")["serviceAccountName"];
        assert_eq!(aggregator["activator-account"], [account.as_str().unwrap()]);
        assert_eq!(activator["aggregator"], webhook["aggregator"], "{what}");
        assert_eq!(activator["service"], aggregator["service"], "{what}");
    }
}

#[test]
fn it_reads_a_token_and_authorities_from_one_volume_and_no_secret_by_itself() {
    for (what, rendered) in cases() {
        let activator = rendered.arguments("activator");
        let container = rendered.container("activator");
        let [mount] = &container["volumeMounts"].as_array().unwrap()[..] else {
            panic!("{what}: {container}")
        };
        let [volume] = &rendered.pod("activator")["volumes"].as_array().unwrap()[..] else {
            panic!("{what}: not one volume")
        };
        assert_eq!(volume["name"], mount["name"], "{what}");
        let folder = mount["mountPath"].as_str().unwrap();
        let sources = volume["projected"]["sources"].as_array().unwrap();
        let token = &sources[0]["serviceAccountToken"];
        assert_eq!(token["audience"], "stillwake-aggregator", "{what}");
        let path = |path: &Value| format!("{folder}/{}", path.as_str().unwrap());
        assert_eq!(activator["token"], [path(&token["path"])], "{what}");

        let secret = &sources[1]["secret"];
        let items = secret["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{what}: keys would be there as well");
        assert_eq!(items[0]["key"], "ca.crt", "{what}");
        let authorities = path(&items[0]["path"]);
        assert_eq!(activator["aggregator-authorities"], [authorities], "{what}");
        // The Secret that the aggregator has its certificate from.
        let aggregator = rendered.arguments("aggregator");
        let origins = ["authorities-secret", "certificate-secret"];
        let origin = origins.iter().find_map(|flag| aggregator.get(*flag));
        assert_eq!(secret["name"], origin.unwrap()[0], "{what}");
    }
}

#[test]
fn its_replicas_find_each_other_and_nobody_else() {
    for (what, rendered) in cases() {
        let labels = &rendered.arguments("activator")["replica-labels"][0];
        let labels: serde_json::Map<_, _> = labels
            .split(',')
            .map(|label| {
                let (key, value) = label.split_once('=').unwrap();
                (key.to_owned(), json!(value))
            })
            .collect();
        assert!(
            labels.contains_key("app.kubernetes.io/instance"),
            "{what}: those of another release are among them"
        );
        assert_eq!(rendered.pods_of(&labels.into()), ["activator"], "{what}");
    }
}

#[test]
fn what_it_publishes_is_owned_by_its_cluster_role_and_goes_with_it() {
    for (what, rendered) in cases() {
        let owner = &rendered.arguments("activator")["owner"][0];
        let mut roles = rendered.all("ClusterRole").into_iter();
        let role = roles.find(|role| role["metadata"]["name"] == owner.as_str());
        let role = role.unwrap_or_else(|| panic!("{what}: there is no {owner}"));
        assert_eq!(role["rules"][0]["resourceNames"], json!([owner]), "{what}");
    }
}

#[test]
fn a_daemon_set_has_one_on_every_node_and_a_deployment_as_many_as_it_is_told() {
    let rendered = case("everything that can be set");
    let deployment = rendered.workload("activator");
    assert_eq!(deployment["kind"], "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let arguments = rendered.arguments("activator");
    assert_eq!(arguments["copies"], ["2"]);
    assert!(!arguments.contains_key("every-node"));
    // Never fewer than before while it is replaced.
    let strategy = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(*strategy, json!({"maxUnavailable": 0, "maxSurge": 1}));

    let rendered = case("an activator on every node");
    let daemon_set = rendered.workload("activator");
    assert_eq!(daemon_set["kind"], "DaemonSet");
    let keys: Vec<_> = daemon_set["spec"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["selector", "template", "updateStrategy"]);
    assert_eq!(
        rendered.pod("activator").get("topologySpreadConstraints"),
        None
    );
    let arguments = rendered.arguments("activator");
    assert!(arguments.contains_key("every-node") && !arguments.contains_key("copies"));
    // A budget that no controller can count for would stop every eviction.
    for budget in rendered.all("PodDisruptionBudget") {
        assert_ne!(budget["metadata"]["name"], "stillwake-activator");
    }
}

#[test]
fn its_network_policy_lets_everybody_reach_its_ports_and_it_every_pod() {
    let policy = |rendered: &Rendered| {
        let policies = rendered.all("NetworkPolicy").into_iter();
        let mut own = policies.filter(|policy| {
            policy["metadata"]["labels"]["app.kubernetes.io/component"] == "activator"
        });
        own.next().cloned()
    };
    let mut seen = 0;
    for (what, rendered) in cases() {
        let Some(policy) = policy(rendered) else {
            continue;
        };
        seen += 1;
        let ports = &rendered.arguments("activator")["ports"][0];
        let (first, last) = ports.split_once('-').unwrap();
        let number = |text: &str| text.parse::<u64>().unwrap();
        let rules = policy["spec"]["ingress"].as_array().unwrap();
        let range = json!({"ports": [{"port": number(first), "endPort": number(last)}]});
        assert!(rules.contains(&range), "{what}: {rules:?}");
    }
    assert!(seen > 1);

    let limited = case("everything that can be set");
    let egress = &policy(limited).unwrap()["spec"]["egress"];
    let pods = json!({"to": [{"namespaceSelector": {}}]});
    assert!(egress.as_array().unwrap().contains(&pods), "{egress}");
    let free = &policy(case("defaults")).unwrap()["spec"];
    assert_eq!(free["policyTypes"], json!(["Ingress"]));
}

#[test]
fn where_the_api_server_can_it_keeps_the_activator_to_its_own_slices() {
    let on = |kubernetes: &str, values: Value| {
        render(&Release {
            kubernetes: kubernetes.to_owned(),
            ..Release::with(values)
        })
    };
    for (kubernetes, values, count) in [
        ("1.29.15", json!({}), 0),
        ("1.30.0", json!({}), 1),
        ("1.37.2", json!({}), 1),
        (
            "1.37.2",
            json!({"activator": {"admissionPolicy": {"enabled": false}}}),
            0,
        ),
    ] {
        let rendered = on(kubernetes, values);
        for kind in [
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ] {
            assert_eq!(rendered.all(kind).len(), count, "{kubernetes}: {kind}");
        }
    }

    let account = json!({"activator": {"serviceAccount": {"name": "holder"}}});
    let rendered = on("1.30.0", account);
    let policy = rendered.all("ValidatingAdmissionPolicy")[0];
    let spec = &policy["spec"];
    assert_eq!(
        spec["matchConditions"][0]["expression"],
        "request.userInfo.username == 'system:serviceaccount:stillwake-system:holder'"
    );
    assert_eq!(spec["failurePolicy"], "Fail");
    // All that it has the right to, so that nothing passes by.
    assert_eq!(
        spec["matchConstraints"]["resourceRules"],
        json!([{
            "apiGroups": ["discovery.k8s.io"],
            "apiVersions": ["v1"],
            "resources": ["endpointslices"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "scope": "Namespaced",
        }])
    );
    let expression = spec["validations"][0]["expression"].as_str().unwrap();
    for named in [
        "[object, oldObject]",
        "endpointslice.kubernetes.io/managed-by",
        "stillwake.dev",
    ] {
        assert!(expression.contains(named), "{expression}");
    }
    let binding = rendered.all("ValidatingAdmissionPolicyBinding")[0];
    let bound = &binding["spec"];
    assert_eq!(bound["policyName"], policy["metadata"]["name"]);
    assert_eq!(bound["validationActions"], json!(["Deny"]));
    // It is about one account, wherever the slices are.
    assert_eq!(bound.get("matchResources"), None);
}
