//! What RBAC objects allow to whom, one line each, so that a test can say all of it.
//!
//! Follows bindings to roles of the same manifest; those that a cluster has are not known here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Returns what a `ServiceAccount` of `namespace` may do.
///
/// As in `get,list pods in shop`, `patch secrets "keys" in shop`, `get deployments.apps`, `get /openid/v1/jwks`; without
/// `in`, everywhere. Checks on the way that nobody but one `ServiceAccount` of the namespace is bound by each binding.
pub(crate) fn of(objects: &[Value], namespace: &str, account: &str) -> BTreeSet<String> {
    let mut grants = BTreeSet::new();
    for binding in objects
        .iter()
        .filter(|object| object.get("roleRef").is_some())
    {
        let name = &binding["subjects"][0]["name"];
        let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
        assert_eq!(binding["subjects"], subject);
        if name == account {
            let scope = &binding["metadata"]["namespace"];
            let rules = role(objects, &binding["roleRef"], scope)["rules"].as_array();
            grants.extend(rules.unwrap().iter().flat_map(|rule| lines(rule, scope)));
        }
    }
    grants
}

fn role<'a>(objects: &'a [Value], reference: &Value, scope: &Value) -> &'a Value {
    let mut roles = objects.iter().filter(|object| {
        let namespace = object["metadata"].get("namespace");
        object["kind"] == reference["kind"]
            && object["metadata"]["name"] == reference["name"]
            && namespace.is_none_or(|namespace| namespace == scope)
    });
    let role = roles.next();
    role.unwrap_or_else(|| panic!("a binding names a role that is not there: {reference}"))
}

fn lines(rule: &Value, scope: &Value) -> Vec<String> {
    let verbs = words(&rule["verbs"]).join(",");
    let scope = scope.as_str().map(|scope| format!(" in {scope}"));
    let scope = scope.unwrap_or_default();
    let names = words(&rule["resourceNames"]).into_iter();
    let mut names: Vec<_> = names.map(|name| format!(" \"{name}\"")).collect();
    if names.is_empty() {
        names.push(String::new());
    }
    let mut lines = Vec::new();
    for url in words(&rule["nonResourceURLs"]) {
        lines.push(format!("{verbs} {url}"));
    }
    for group in words(&rule["apiGroups"]) {
        for resource in words(&rule["resources"]) {
            let resource = format!("{resource}.{group}");
            let resource = resource.trim_end_matches('.');
            lines.extend(
                names
                    .iter()
                    .map(|name| format!("{verbs} {resource}{name}{scope}")),
            );
        }
    }
    lines
}

fn words(list: &Value) -> Vec<&str> {
    let words = list.as_array().into_iter().flatten();
    words.map(|word| word.as_str().unwrap()).collect()
}
