//! What may be set in the chart: helm accepts what `values.schema.json` describes, and names the key of what it refuses.

use serde_json::{Value, json};
use stillwake_e2e::chart::{Chart, OLDEST_KUBERNETES, Release, cases};

fn chart() -> Chart {
    Chart::find().unwrap()
}

#[test]
fn helm_has_nothing_to_say_about_the_chart() {
    let chart = chart();
    for case in cases("stillwake-system") {
        let linted = chart.lint(&case.release);
        assert!(linted.is_ok(), "{}: {linted:?}", case.name);
    }
}

/// Asserts that helm refuses each of the values and names what is wrong with it.
fn assert_refused(refused: &[(Value, &str)]) {
    let chart = chart();
    for (values, named) in refused {
        let refusal = chart.manifest(&Release::with(values.clone()));
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains(named), "{values}: {refusal}");
    }
}

#[test]
fn a_key_that_there_is_not_is_refused_and_named() {
    assert_refused(&[
        (json!({"webook": {"replicas": 1}}), "'webook'"),
        (json!({"webhook": {"replica": 1}}), "'replica'"),
        (
            json!({"webhook": {"serviceAccount": {"crate": true}}}),
            "'crate'",
        ),
        (
            json!({"aggregator": {"failurePolicy": "Fail"}}),
            "'failurePolicy'",
        ),
        (
            json!({"aggregator": {"resources": {"request": {}}}}),
            "'request'",
        ),
        (json!({"image": {"tags": "1"}}), "'tags'"),
        (json!({"sidecar": {"image": {"repo": "a"}}}), "'repo'"),
        (
            json!({"sidecar": {"resources": {"limits": {"gpu": 1}}}}),
            "'gpu'",
        ),
        (
            json!({"certificates": {"self": {"lifetime": "1h"}}}),
            "'lifetime'",
        ),
        (
            json!({"metrics": {"podMonitor": {"enable": true}}}),
            "'enable'",
        ),
        (json!({"networkPolicy": {"ingress": []}}), "'ingress'"),
        (json!({"activator": {"requireTls": true}}), "'requireTls'"),
        (json!({"activator": {"hold": {"max": 1}}}), "'max'"),
        (json!({"activator": {"ports": {"range": "1-2"}}}), "'range'"),
        (
            json!({"activator": {"admissionPolicy": {"enable": true}}}),
            "'enable'",
        ),
    ]);
}

#[test]
fn a_component_s_value_that_makes_no_sense_is_refused_and_named() {
    let webhook = |values: Value| json!({"webhook": values});
    assert_refused(&[
        (webhook(json!({"replicas": "two"})), "/webhook/replicas"),
        (webhook(json!({"replicas": -1})), "/webhook/replicas"),
        (webhook(json!({"replicas": 0})), "/webhook/replicas"),
        (webhook(json!({"replicas": 1.5})), "/webhook/replicas"),
        (
            webhook(json!({"timeoutSeconds": 31})),
            "/webhook/timeoutSeconds",
        ),
        (
            webhook(json!({"failurePolicy": "Never"})),
            "/webhook/failurePolicy",
        ),
        (
            webhook(json!({"nodeSelector": {"gpu": true}})),
            "/webhook/nodeSelector/gpu",
        ),
        (
            webhook(json!({"tolerations": ["all"]})),
            "/webhook/tolerations/0",
        ),
        (webhook(json!({"extraArgs": [1]})), "/webhook/extraArgs/0"),
        (
            webhook(json!({"resources": {"limits": {"cpu": "much"}}})),
            "/webhook/resources/limits/cpu",
        ),
        (
            webhook(json!({"serviceAccount": {"create": false}})),
            "/webhook/serviceAccount/name",
        ),
        (
            json!({"aggregator": {"requireTls": "yes"}}),
            "/aggregator/requireTls",
        ),
        (json!({"sidecar": {"linger": "long"}}), "/sidecar/linger"),
        (
            json!({"sidecar": {"stopDelay": "1500ms"}}),
            "/sidecar/stopDelay",
        ),
        (json!({"sidecar": {"stopDelay": 2}}), "/sidecar/stopDelay"),
    ]);
    let activator = |values: Value| json!({"activator": values});
    assert_refused(&[
        (activator(json!({"enabled": "no"})), "/activator/enabled"),
        (activator(json!({"kind": "StatefulSet"})), "/activator/kind"),
        (activator(json!({"replicas": 0})), "/activator/replicas"),
        (activator(json!({"copies": 0})), "/activator/copies"),
        (
            activator(json!({"ports": {"first": 80}})),
            "/activator/ports/first",
        ),
        (
            activator(json!({"ports": {"last": 70_000}})),
            "/activator/ports/last",
        ),
        (
            activator(json!({"ports": {"first": 30_000}})),
            "activator.ports: the first, 30000, is after the last, 29999",
        ),
        (
            activator(json!({"hold": {"timeout": "1m"}})),
            "/activator/hold/timeout",
        ),
        (
            activator(json!({"hold": {"timeout": "0s"}})),
            "/activator/hold/timeout",
        ),
        (
            activator(json!({"hold": {"maxHeldBytes": "16Mi"}})),
            "/activator/hold/maxHeldBytes",
        ),
    ]);
}

#[test]
fn a_common_value_that_makes_no_sense_is_refused_and_named() {
    assert_refused(&[
        (json!({"image": {"digest": "latest"}}), "/image/digest"),
        (
            json!({"image": {"pullPolicy": "Sometimes"}}),
            "/image/pullPolicy",
        ),
        (
            json!({"fullnameOverride": "Stillwake"}),
            "/fullnameOverride",
        ),
        (
            json!({"fullnameOverride": "a".repeat(53)}),
            "/fullnameOverride",
        ),
        (json!({"watchNamespaces": "shop"}), "/watchNamespaces"),
        (
            json!({"watchNamespaces": ["shop", "shop"]}),
            "/watchNamespaces",
        ),
        (
            json!({"watchNamespaces": ["shop/web"]}),
            "/watchNamespaces/0",
        ),
        (json!({"log": {"format": "xml"}}), "/log/format"),
        (json!({"drainDelay": "1m"}), "/drainDelay"),
        (json!({"drainDelay": 5}), "/drainDelay"),
        (json!({"runAsUser": 0}), "/runAsUser"),
        (json!({"sidecar": {"user": "root"}}), "/sidecar/user"),
        (
            json!({"sidecar": {"defaultPodSecurity": "strict"}}),
            "/sidecar/defaultPodSecurity",
        ),
        (
            json!({"certificates": {"mode": "helm"}}),
            "/certificates/mode",
        ),
        (
            json!({"certificates": {"mode": "secret"}}),
            "/certificates/secret/webhook",
        ),
        (
            json!({"certificates": {"mode": "secret", "secret": {"webhook": "a"}}}),
            "/certificates/secret/aggregator",
        ),
        (
            json!({"certificates": {"self": {"leafLifetime": "soon"}}}),
            "/certificates/self/leafLifetime",
        ),
        (
            json!({"certificates": {"certManager": {"duration": "90d"}}}),
            "/certificates/certManager/duration",
        ),
        (
            json!({"podDisruptionBudget": {"maxUnavailable": "half"}}),
            "/podDisruptionBudget/maxUnavailable",
        ),
        (
            json!({"priorityClass": {"value": 2_000_000_000}}),
            "/priorityClass/value",
        ),
    ]);
}

#[test]
fn values_for_other_charts_of_an_umbrella_are_accepted() {
    let values = json!({"global": {"imageRegistry": "registry.example.com"}, "enabled": true});
    chart().manifest(&Release::with(values)).unwrap();
}

#[test]
fn kubernetes_without_native_sidecars_is_refused() {
    let chart = chart();
    let on = |kubernetes: &str| {
        chart.manifest(&Release {
            kubernetes: kubernetes.to_owned(),
            ..Release::with(json!({}))
        })
    };
    let refusal = on("1.28.15").unwrap_err().to_string();
    assert!(
        refusal.contains(">=1.29.0-0") && refusal.contains("1.28.15"),
        "{refusal}"
    );
    // Vendors' versions look like pre-releases.
    for kubernetes in [OLDEST_KUBERNETES, "1.29.0-gke.1", "1.37.2+k3s1"] {
        on(kubernetes).unwrap();
    }
}
