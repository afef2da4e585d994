//! An API server in this process, for tests: collections that are listed and followed, objects that are read, applied and
//! deleted, and refusals. It writes down what it was asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

/// Virtual time after which what did not happen will not.
pub const PATIENCE: Duration = Duration::from_mins(10);

/// What a server-side apply says it is.
const APPLY: &str = "application/apply-patch+yaml";

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The server; clones share it.
///
/// Panics at what no client of ours sends.
#[derive(Clone, Debug, Default)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    collections: BTreeMap<String, Collection>,
    refusals: BTreeMap<String, StatusCode>,
    hanging: BTreeSet<String>,
    texts: BTreeMap<String, String>,
    asked: Vec<String>,
    written: Vec<Value>,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<String, Value>,
    /// What happened, with the version that it led to.
    log: Vec<(u64, String)>,
    /// Watches from before this version are too late.
    forgotten: u64,
    watches: Vec<mpsc::UnboundedSender<String>>,
}

impl Server {
    /// Returns a client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object into the collection at `path`.
    pub fn put(&self, path: &str, object: Value) {
        self.inner.lock().put(path, object);
    }

    /// Applies an object at its own `path`. It is then in the collections of its namespace and of all namespaces.
    pub fn apply(&self, path: &str, object: Value) {
        let (places, name) = places(path).expect("not the path of an object");
        self.inner.lock().apply(&places, name, object);
    }

    /// Takes away the object at its own `path` from both collections.
    pub fn remove(&self, path: &str) {
        let (places, name) = places(path).expect("not the path of an object");
        self.inner.lock().delete_object(&places, name, b"{}");
    }

    /// Returns the objects of the collection at `path`, in the order of their names.
    pub fn objects(&self, path: &str) -> Vec<Value> {
        let inner = self.inner.lock();
        let collection = inner.collections.get(path);
        collection.map_or_else(Vec::new, |collection| {
            collection.objects.values().cloned().collect()
        })
    }

    /// Takes an object away from the collection at `path`.
    pub fn delete(&self, path: &str, name: &str) {
        self.inner.lock().delete(path, name);
    }

    /// Takes an object away so that nobody who watches hears of it: watches end, and cannot be taken up again.
    pub fn delete_unseen(&self, path: &str, name: &str) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        let collection = inner.collections.entry(path.to_owned()).or_default();
        collection.objects.remove(name);
        collection.forgotten = version;
        collection.watches.clear();
    }

    /// Refuses everything at `path`, until [`allow`](Self::allow).
    pub fn refuse(&self, path: &str, status: StatusCode) {
        self.inner.lock().refusals.insert(path.to_owned(), status);
    }

    /// Ends a refusal.
    pub fn allow(&self, path: &str) {
        self.inner.lock().refusals.remove(path);
    }

    /// Never answers `path` again.
    pub fn hang(&self, path: &str) {
        self.inner.lock().hanging.insert(path.to_owned());
    }

    /// Answers `path` with a text.
    pub fn say(&self, path: &str, text: &str) {
        self.inner
            .lock()
            .texts
            .insert(path.to_owned(), text.to_owned());
    }

    /// Returns the requests so far: method, path and query.
    pub fn asked(&self) -> Vec<String> {
        self.inner.lock().asked.clone()
    }

    /// Returns the bodies of the writes so far.
    pub fn written(&self) -> Vec<Value> {
        self.inner.lock().written.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let hangs = self.inner.lock().hanging.contains(head.uri.path());
        if hangs {
            return std::future::pending().await;
        }
        let mut inner = self.inner.lock();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        inner.asked.push(format!("{} {path}?{query}", head.method));
        if let Some(status) = inner.refusals.get(path) {
            return refused(*status);
        }
        if let Some(text) = inner.texts.get(path)
            && head.method == Method::GET
        {
            return Response::new(full(text.clone()));
        }
        if let Some((places, name)) = places(path) {
            if head.method == Method::DELETE {
                return inner.delete_object(&places, name, &body);
            }
            let kind = head.headers.get(CONTENT_TYPE);
            if kind.is_some_and(|kind| kind == APPLY) {
                let object: Value = serde_json::from_slice(&body).unwrap();
                inner.written.push(object.clone());
                return inner.apply(&places, name, object);
            }
            // Of a collection that was never used nothing is known; then it may be a collection itself.
            if head.method == Method::GET
                && let Some(collection) = inner.collections.get(&places[0])
            {
                let found = collection.objects.get(name);
                return found.map_or_else(|| refused(StatusCode::NOT_FOUND), json_response);
            }
        }
        if head.method != Method::GET {
            let written: Value = serde_json::from_slice(&body).unwrap();
            inner.written.push(written.clone());
            return json_response(&written);
        }
        let version = inner.version;
        let collection = inner.collections.entry(path.to_owned()).or_default();
        if !query.contains("watch=true") {
            let objects: Vec<_> = collection.objects.values().collect();
            let metadata = json!({"resourceVersion": version.to_string()});
            let list =
                json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": objects});
            return json_response(&list);
        }
        let (_, since) = query.rsplit_once("resourceVersion=").unwrap();
        let since: u64 = since.split('&').next().unwrap().parse().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        if since < collection.forgotten {
            // Said in the watch and not by its status, as an API server does.
            let status = status(StatusCode::GONE);
            let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
            sender.send(line).unwrap();
        }
        for (_, line) in collection
            .log
            .iter()
            .filter(|(version, _)| *version > since)
        {
            sender.send(line.clone()).unwrap();
        }
        collection.watches.push(sender);
        let lines = stream::unfold(receiver, |mut receiver| async {
            let line = receiver.recv().await?;
            let frame = hyper::body::Frame::data(Bytes::from(line));
            Some((Ok::<_, Infallible>(frame), receiver))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl Inner {
    fn put(&mut self, path: &str, object: Value) {
        self.change(path, object, |collection, name, object| {
            let known = collection.objects.insert(name, object.clone()).is_some();
            if known { "MODIFIED" } else { "ADDED" }
        });
    }

    fn delete(&mut self, path: &str, name: &str) {
        let object = json!({"metadata": {"name": name}});
        self.change(path, object, |collection, name, object| {
            if let Some(known) = collection.objects.remove(&name) {
                let version = object["metadata"]["resourceVersion"].take();
                *object = known;
                object["metadata"]["resourceVersion"] = version;
            }
            "DELETED"
        });
    }

    /// Applies an object: as if it was all of one applier's, who is the only one.
    fn apply(&mut self, places: &[String], name: &str, mut object: Value) -> Response<Answer> {
        let known = self.collections.get(&places[0]);
        if let Some(known) = known.and_then(|known| known.objects.get(name)) {
            object["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"].clone();
            object["metadata"]["uid"] = known["metadata"]["uid"].clone();
            if object == *known {
                return json_response(known);
            }
        } else {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        let version = self.version;
        for place in places {
            // One change, seen in two places.
            self.version = version;
            self.put(place, object.clone());
        }
        json_response(&self.collections[&places[0]].objects[name])
    }

    fn delete_object(&mut self, places: &[String], name: &str, body: &[u8]) -> Response<Answer> {
        let known = self.collections.get(&places[0]);
        let Some(known) = known.and_then(|known| known.objects.get(name)) else {
            return refused(StatusCode::NOT_FOUND);
        };
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        for key in ["uid", "resourceVersion"] {
            let condition = &options["preconditions"][key];
            if !condition.is_null() && *condition != known["metadata"][key] {
                return refused(StatusCode::CONFLICT);
            }
        }
        let version = self.version;
        for place in places {
            self.version = version;
            self.delete(place, name);
        }
        json_response(&status(StatusCode::OK))
    }

    fn change(
        &mut self,
        path: &str,
        mut object: Value,
        apply: impl FnOnce(&mut Collection, String, &mut Value) -> &'static str,
    ) {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let collection = self.collections.entry(path.to_owned()).or_default();
        let kind = apply(collection, name, &mut object);
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        collection
            .watches
            .retain(|watch| watch.send(line.clone()).is_ok());
        collection.log.push((version, line));
    }
}

/// Returns in which collections the object at `path` is, its namespace's first and that of all namespaces, and its name.
fn places(path: &str) -> Option<(Vec<String>, &str)> {
    let (collection, name) = path.rsplit_once('/')?;
    let (group, rest) = collection.split_once("/namespaces/")?;
    let (_, kind) = rest.split_once('/')?;
    Some((vec![collection.to_owned(), format!("{group}/{kind}")], name))
}

fn full(text: String) -> Answer {
    Full::from(text).boxed_unsync()
}

fn json_response(value: &Value) -> Response<Answer> {
    Response::new(full(value.to_string()))
}

fn refused(code: StatusCode) -> Response<Answer> {
    let mut response = json_response(&status(code));
    *response.status_mut() = code;
    response
}

fn status(code: StatusCode) -> Value {
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": "refused by the script",
    })
}

/// Waits for the next of what a follower tells.
pub async fn next<T>(told: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = timeout(PATIENCE, told.recv()).await;
    next.expect("nothing more is told")
        .expect("the follower ended")
}
