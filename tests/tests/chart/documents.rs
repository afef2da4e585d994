//! The chart's documents: every value is described, and README.md says what schema and values say.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::Value;
use stillwake_e2e::chart::folder;

/// Set to rewrite the README instead of comparing it.
const UPDATE: &str = "STILLWAKE_UPDATE_DOCS";

/// What has no default: what Helm and charts around this one set, and limits that there are not.
const NOT_IN_VALUES: [&str; 4] = [
    "enabled",
    "global",
    "sidecar.resources.limits.cpu",
    "sidecar.resources.limits.memory",
];

/// A value that can be set.
struct Setting {
    description: String,
    default: Option<Value>,
}

fn schema() -> Value {
    let text = fs::read_to_string(folder().join("values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn values() -> Value {
    let text = fs::read_to_string(folder().join("values.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Returns what a part of the schema says, where necessary in another place.
fn resolved<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => part,
    }
}

/// Returns all values that can be set, by their path, with what sets several only when it has no fixed keys.
fn settings(schema: &Value) -> BTreeMap<String, Setting> {
    let mut settings = BTreeMap::new();
    collect(schema, schema, Some(&values()), "", &mut settings);
    settings
}

fn collect(
    schema: &Value,
    part: &Value,
    defaults: Option<&Value>,
    path: &str,
    settings: &mut BTreeMap<String, Setting>,
) {
    let own = resolved(schema, part);
    if let Some(properties) = own["properties"].as_object() {
        assert_eq!(
            own["additionalProperties"], false,
            "`{path}` takes keys that it does not know"
        );
        for (key, part) in properties {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let described = part["description"].as_str().unwrap_or_default();
            assert!(
                described.ends_with('.'),
                "`{path}` has no description, or no whole one"
            );
            let default = defaults.and_then(|defaults| defaults.get(key));
            collect(schema, part, default, &path, settings);
        }
        return;
    }
    let setting = Setting {
        description: part["description"].as_str().unwrap_or_default().to_owned(),
        default: defaults.cloned(),
    };
    settings.insert(path.to_owned(), setting);
}

/// Returns the paths of all that `values` sets where the schema has no further fixed keys.
fn paths(schema: &Value, part: &Value, values: &Value, path: &str) -> Vec<String> {
    let own = resolved(schema, part);
    match (own["properties"].as_object(), values.as_object()) {
        (Some(properties), Some(values)) => values
            .iter()
            .flat_map(|(key, value)| {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let part = properties.get(key);
                let part = part.unwrap_or_else(|| panic!("the schema does not know `{path}`"));
                paths(schema, part, value, &path)
            })
            .collect(),
        _ => vec![path.to_owned()],
    }
}

#[test]
fn values_and_schema_have_the_same_keys() {
    let schema = schema();
    let mut known: Vec<_> = settings(&schema).into_keys().collect();
    known.retain(|path| !NOT_IN_VALUES.contains(&path.as_str()));
    let mut set = paths(&schema, &schema, &values(), "");
    set.sort();
    assert_eq!(set, known);
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "`null`".to_owned(),
        Value::String(text) if text.is_empty() => "`\"\"`".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn readme() -> String {
    let schema = schema();
    let mut page = include_str!("readme.md").to_owned();
    page += "\n## Values\n\n\
             Generated from `values.schema.json` and `values.yaml`; `STILLWAKE_UPDATE_DOCS=1 make chart` rewrites it. What is not \
             in these tables is refused.\n";
    let mut sections: BTreeMap<String, Vec<(String, Setting)>> = BTreeMap::new();
    for (path, setting) in settings(&schema) {
        let section = path.split_once('.').map_or("", |(section, _)| section);
        sections
            .entry(section.to_owned())
            .or_default()
            .push((path, setting));
    }
    for (section, settings) in sections {
        if !section.is_empty() {
            let described = schema["properties"][&section]["description"].as_str();
            write!(
                page,
                "\n### {section}\n\n{}\n",
                described.unwrap_or_default()
            )
            .unwrap();
        }
        page += "\n| value | default | meaning |\n|---|---|---|\n";
        for (path, setting) in settings {
            let default = setting.default.as_ref().map(cell).unwrap_or_default();
            let description = setting.description.replace('|', "\\|");
            writeln!(page, "| `{path}` | {default} | {description} |").unwrap();
        }
    }
    page
}

#[test]
fn the_readme_says_what_can_be_set() {
    let path = folder().join("README.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, readme()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == readme(),
        "charts/stillwake/README.md is out of date; run the test with {UPDATE}=1 and commit the result"
    );
}

#[test]
fn the_chart_is_of_the_version_that_everything_has() {
    let text = fs::read_to_string(folder().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&version.into(), &version.into())
    );
    let images = chart["annotations"]["artifacthub.io/images"]
        .as_str()
        .unwrap();
    let images: Vec<BTreeMap<String, String>> = serde_saphyr::from_str(images).unwrap();
    let values = values();
    let expected = [&values["image"], &values["sidecar"]["image"]].map(|image| {
        let part = |key: &str| image[key].as_str().unwrap();
        format!("{}/{}:{version}", part("registry"), part("repository"))
    });
    let named: Vec<_> = images.iter().map(|image| image["image"].clone()).collect();
    assert_eq!(named, expected);
}
