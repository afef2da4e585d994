//! What one watch's events are told as.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, Status};
use serde_json::{Value, json};

use super::*;

impl Watched for DeserializeGuard<ConfigMap> {
    type Kept = String;

    const COMES_WITH: Option<&'static str> = Some("a test");

    fn keep(self) -> Result<Self::Kept, String> {
        let object = self.0.map_err(|invalid| invalid.error)?;
        Ok(object
            .data
            .unwrap_or_default()
            .remove("value")
            .unwrap_or_default())
    }
}

type Guarded = DeserializeGuard<ConfigMap>;

struct Watch {
    follower: Follower<Guarded, String>,
    failures: Counter,
}

fn watch() -> Watch {
    let failures = Counter::default();
    let observe = |name: ObjectName, kept: Option<String>| {
        format!("{name}={}", kept.unwrap_or_else(|| "gone".to_owned()))
    };
    let follower = Follower::new(&Place::Everywhere, observe, failures.clone());
    Watch { follower, failures }
}

impl Watch {
    fn take(&mut self, event: watcher::Result<Event<Guarded>>) -> Vec<String> {
        let said = self
            .follower
            .take(event)
            .into_iter()
            .map(|said| match said {
                Said::Observed(fact) => fact,
                Said::Listed => "listed".to_owned(),
            });
        let mut said: Vec<_> = said.collect();
        said.sort();
        said
    }

    fn list(&mut self, objects: impl IntoIterator<Item = Guarded>) -> Vec<String> {
        let mut said = self.take(Ok(Event::Init));
        for object in objects {
            said.extend(self.take(Ok(Event::InitApply(object))));
        }
        said.extend(self.take(Ok(Event::InitDone)));
        said
    }
}

fn object(name: &str, data: &Value) -> Guarded {
    let metadata = json!({"name": name, "namespace": "n"});
    serde_json::from_value(json!({"metadata": metadata, "data": data})).unwrap()
}

fn good(name: &str, value: &str) -> Guarded {
    object(name, &json!({ "value": value }))
}

fn api_error(code: u16) -> Error {
    let mut status = Status::failure("refused", "Refused");
    status.code = code;
    Error::Api(status.boxed())
}

fn list_error(code: u16) -> watcher::Result<Event<Guarded>> {
    Err(watcher::Error::InitialListFailed(api_error(code)))
}

#[test]
fn lists_and_changes_are_told_object_by_object() {
    let mut watch = watch();
    assert_eq!(
        watch.list([good("a", "1"), good("b", "1")]),
        ["n/a=1", "n/b=1", "listed"]
    );
    assert_eq!(watch.take(Ok(Event::Apply(good("a", "2")))), ["n/a=2"]);
    assert_eq!(watch.take(Ok(Event::Delete(good("b", "1")))), ["n/b=gone"]);
}

#[test]
fn a_new_list_tells_what_vanished_in_between() {
    let mut watch = watch();
    watch.list([good("a", "1"), good("b", "1")]);
    watch.take(Ok(Event::Apply(good("c", "1"))));
    assert_eq!(
        watch.list([good("b", "1"), good("d", "1")]),
        ["n/b=1", "n/d=1", "n/a=gone", "n/c=gone"]
    );
    assert_eq!(watch.list([]), ["n/b=gone", "n/d=gone"]);
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away_and_forgets_nothing() {
    let mut watch = watch();
    watch.list([good("a", "1")]);
    watch.take(Ok(Event::Init));
    assert_eq!(watch.take(Ok(Event::InitApply(good("b", "1")))), ["n/b=1"]);
    assert!(watch.take(list_error(500)).is_empty());
    assert_eq!(
        watch.list([good("c", "1")]),
        ["n/c=1", "n/a=gone", "n/b=gone"]
    );
}

#[test]
fn one_that_cannot_be_read_is_left_out_and_stays_as_it_was() {
    let mut watch = watch();
    let broken = || object("a", &json!("not a map"));
    assert_eq!(watch.list([broken(), good("b", "1")]), ["n/b=1", "listed"]);
    assert_eq!(watch.take(Ok(Event::Apply(good("a", "1")))), ["n/a=1"]);
    assert!(watch.take(Ok(Event::Apply(broken()))).is_empty());
    assert_eq!(watch.list([broken(), good("b", "1")]), ["n/b=1"]);
    assert_eq!(watch.take(Ok(Event::Delete(broken()))), ["n/a=gone"]);
}

#[test]
fn a_kind_that_the_cluster_does_not_know_is_listed_as_none() {
    let mut watch = watch();
    assert!(watch.take(Ok(Event::Init)).is_empty());
    assert_eq!(watch.take(list_error(404)), ["listed"]);
    assert!(watch.take(list_error(404)).is_empty());
    assert_eq!(watch.list([good("a", "1")]), ["n/a=1"]);
    assert!(
        watch.take(list_error(404)).is_empty(),
        "what was told stays"
    );
    assert_eq!(watch.failures.get(), 3);
}

#[test]
fn other_failures_leave_it_unlisted_and_count() {
    let mut watch = watch();
    for code in [403, 500, 401] {
        assert!(watch.take(list_error(code)).is_empty());
    }
    let ended = watcher::Error::WatchStartFailed(api_error(410));
    assert!(watch.take(Err(ended)).is_empty());
    assert!(
        watch
            .take(Err(watcher::Error::NoResourceVersion))
            .is_empty()
    );
    assert_eq!(watch.failures.get(), 5);
    assert_eq!(watch.list([]), ["listed"]);
}
