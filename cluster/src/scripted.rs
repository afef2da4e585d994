//! An API server in this process, as far as it is watched: collections that are listed and followed, and refusals. It
//! writes down what it was asked.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

/// Virtual time after which what did not happen will not.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The server; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Server {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    collections: BTreeMap<String, Collection>,
    refusals: BTreeMap<String, StatusCode>,
    texts: BTreeMap<String, String>,
    asked: Vec<String>,
    written: Vec<Value>,
}

#[derive(Default)]
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
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object into the collection at `path`.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.change(path, object, |collection, name, object| {
            let known = collection.objects.insert(name, object.clone()).is_some();
            if known { "MODIFIED" } else { "ADDED" }
        });
    }

    /// Takes an object away from the collection at `path`.
    pub(crate) fn delete(&self, path: &str, name: &str) {
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

    /// Takes an object away so that nobody who watches hears of it: watches end, and cannot be taken up again.
    pub(crate) fn delete_unseen(&self, path: &str, name: &str) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        let collection = inner.collections.entry(path.to_owned()).or_default();
        collection.objects.remove(name);
        collection.forgotten = version;
        collection.watches.clear();
    }

    /// Refuses everything at `path`, until [`allow`](Self::allow).
    pub(crate) fn refuse(&self, path: &str, status: StatusCode) {
        self.inner.lock().refusals.insert(path.to_owned(), status);
    }

    pub(crate) fn allow(&self, path: &str) {
        self.inner.lock().refusals.remove(path);
    }

    /// Answers `path` with a text.
    pub(crate) fn say(&self, path: &str, text: &str) {
        self.inner
            .lock()
            .texts
            .insert(path.to_owned(), text.to_owned());
    }

    /// Returns the requests so far: method, path and query.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.lock().asked.clone()
    }

    /// Returns the bodies of the writes so far.
    pub(crate) fn written(&self) -> Vec<Value> {
        self.inner.lock().written.clone()
    }

    fn change(
        &self,
        path: &str,
        mut object: Value,
        apply: impl FnOnce(&mut Collection, String, &mut Value) -> &'static str,
    ) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let collection = inner.collections.entry(path.to_owned()).or_default();
        let kind = apply(collection, name, &mut object);
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        collection
            .watches
            .retain(|watch| watch.send(line.clone()).is_ok());
        collection.log.push((version, line));
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut inner = self.inner.lock();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        inner.asked.push(format!("{} {path}?{query}", head.method));
        if let Some(status) = inner.refusals.get(path) {
            return refused(*status);
        }
        if head.method != Method::GET {
            let written: Value = serde_json::from_slice(&body).unwrap();
            inner.written.push(written.clone());
            return json_response(&written);
        }
        if let Some(text) = inner.texts.get(path) {
            return Response::new(full(text.clone()));
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
pub(crate) async fn next<T>(told: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = timeout(PATIENCE, told.recv()).await;
    next.expect("nothing more is told")
        .expect("the follower ended")
}
