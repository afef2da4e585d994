//! The objects of one release, found by what a test asks about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;
use stillwake_e2e::chart::{Case, Chart, Release, cases};

/// The namespace of the cases: neither the default nor the one in the README.
pub(crate) const NAMESPACE: &str = "autoscaling";

/// What the chart can start, by the names of the subcommands.
pub(crate) const COMPONENTS: [&str; 3] = ["aggregator", "webhook", "activator"];

/// All cases, rendered once.
pub(crate) static CASES: LazyLock<Vec<(Case, Rendered)>> = LazyLock::new(|| {
    let cases = cases(NAMESPACE).into_iter();
    let rendered = cases.map(|case| {
        let rendered = render(&case.release);
        (case, rendered)
    });
    rendered.collect()
});

/// The first case whose name has this in it.
pub(crate) fn case(name: &str) -> &'static Rendered {
    let mut cases = CASES.iter().filter(|(case, _)| case.name.contains(name));
    &cases.next().unwrap().1
}

/// Renders a release.
pub(crate) fn render(release: &Release) -> Rendered {
    Rendered {
        objects: Chart::find().unwrap().objects(release).unwrap(),
        namespace: release.namespace.clone(),
    }
}

/// What was rendered of a release.
pub(crate) struct Rendered {
    pub(crate) objects: Vec<Value>,
    namespace: String,
}

/// A Service, as far as the tests look at it.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) ports: Vec<u64>,
    pub(crate) headless: bool,
    pub(crate) with_unready: bool,
    object: Value,
}

impl Rendered {
    /// All objects of one kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.all(kind).into_iter().find(|object| {
            let namespace = &object["metadata"]["namespace"];
            object["metadata"]["name"] == name
                && (namespace.is_null() || *namespace == self.namespace)
        })
    }

    /// The components that there are.
    pub(crate) fn components(&self) -> impl Iterator<Item = &'static str> {
        let there = |component: &&str| self.workload_if_any(component).is_some();
        COMPONENTS.into_iter().filter(there)
    }

    /// The Deployment or `DaemonSet` of a component.
    pub(crate) fn workload(&self, component: &str) -> &Value {
        self.workload_if_any(component)
            .unwrap_or_else(|| panic!("there is no workload of {component}"))
    }

    fn workload_if_any(&self, component: &str) -> Option<&Value> {
        let kinds = ["Deployment", "DaemonSet"].into_iter();
        let mut workloads = kinds.flat_map(|kind| self.all(kind));
        workloads
            .find(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == component)
    }

    pub(crate) fn pod(&self, component: &str) -> &Value {
        &self.workload(component)["spec"]["template"]["spec"]
    }

    pub(crate) fn container(&self, component: &str) -> &Value {
        &self.pod(component)["containers"][0]
    }

    /// The numbers of the ports that a component says it listens on.
    pub(crate) fn container_ports(&self, component: &str) -> BTreeSet<u64> {
        let ports = self.container(component)["ports"]
            .as_array()
            .unwrap()
            .iter();
        ports
            .map(|port| port["containerPort"].as_u64().unwrap())
            .collect()
    }

    /// The flags that a component is given, each with its values; the subcommand is the component's name.
    pub(crate) fn arguments(&self, component: &str) -> BTreeMap<String, Vec<String>> {
        let arguments = self.container(component)["args"].as_array().unwrap();
        let mut arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        assert_eq!(arguments.next(), Some(component));
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for argument in arguments {
            let flag = argument.strip_prefix("--");
            let flag = flag.unwrap_or_else(|| panic!("`{argument}` is no flag"));
            let (flag, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags
                .entry(flag.to_owned())
                .or_default()
                .push(value.to_owned());
        }
        flags
    }

    /// The components whose pods these labels select.
    pub(crate) fn pods_of(&self, labels: &Value) -> Vec<&str> {
        let wanted = labels.as_object().unwrap();
        assert!(
            !wanted.is_empty(),
            "this selects every pod of the namespace"
        );
        let selected = self.components().filter(|component| {
            let labels = &self.workload(component)["spec"]["template"]["metadata"]["labels"];
            wanted.iter().all(|(key, value)| labels[key] == *value)
        });
        selected.collect()
    }

    pub(crate) fn service(&self, name: &str) -> Service {
        let object = self.find("Service", name);
        let object = object.unwrap_or_else(|| panic!("there is no Service {name}"));
        let ports = object["spec"]["ports"].as_array().unwrap().iter();
        Service {
            name: name.to_owned(),
            ports: ports.map(|port| port["port"].as_u64().unwrap()).collect(),
            headless: object["spec"]["clusterIP"] == "None",
            with_unready: object["spec"]["publishNotReadyAddresses"] == true,
            object: object.clone(),
        }
    }

    /// Checks that a Service leads to these ports of this component and to nothing else.
    pub(crate) fn assert_reaches(&self, service: &Service, component: &str, expected: &[u64]) {
        let spec = &service.object["spec"];
        assert_eq!(
            self.pods_of(&spec["selector"]),
            [component],
            "{}",
            service.name
        );
        let named = self.container(component)["ports"].as_array().unwrap();
        let ports = spec["ports"].as_array().unwrap().iter().map(|port| {
            let target = named
                .iter()
                .find(|named| named["name"] == port["targetPort"])
                .unwrap();
            target["containerPort"].as_u64().unwrap()
        });
        assert_eq!(ports.collect::<Vec<_>>(), expected, "{}", service.name);
    }
}
