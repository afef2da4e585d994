//! An API server in this process, as far as we use one: named objects, versions, conflicts, and the three kinds of patch
//! that matter here. It can be told to refuse, and it writes down what it was asked.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The server; clones share it.
#[derive(Clone, Default)]
pub(super) struct Server {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    versions: u64,
    asked: Vec<String>,
    refusal: Option<StatusCode>,
    rival: Option<(String, Value)>,
}

impl Server {
    /// Returns a client of this server.
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object at `path`, as somebody else would.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.inner.lock().put(path, object);
    }

    /// Lets somebody else put an object at `path` just before the next write arrives.
    pub(super) fn put_before_next_write(&self, path: &str, object: Value) {
        self.inner.lock().rival = Some((path.to_owned(), object));
    }

    /// Refuses everything from now on.
    pub(super) fn refuse(&self, status: StatusCode) {
        self.inner.lock().refusal = Some(status);
    }

    pub(super) fn object(&self, path: &str) -> Option<Value> {
        self.inner.lock().objects.get(path).cloned()
    }

    pub(super) fn delete(&self, path: &str) {
        self.inner.lock().objects.remove(path);
    }

    /// Returns the writes so far: method, path, kind of patch and query.
    pub(super) fn writes(&self) -> Vec<String> {
        let inner = self.inner.lock();
        let asked = inner.asked.iter().filter(|line| !line.starts_with("GET"));
        asked.cloned().collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind = head.headers.get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap());
        let path = head.uri.path();
        let mut inner = self.inner.lock();
        inner.asked.push(format!(
            "{} {path} {kind} {}",
            head.method,
            head.uri.query().unwrap_or_default()
        ));
        if let Some(status) = inner.refusal {
            return refused(status);
        }
        if head.method != Method::GET
            && let Some((path, object)) = inner.rival.take()
        {
            inner.put(&path, object);
        }
        let done = match head.method {
            Method::GET => {
                let found = inner.objects.get(path).cloned();
                found.ok_or(StatusCode::NOT_FOUND)
            }
            Method::POST => inner.create(path, body),
            Method::PUT => inner.replace(path, body),
            Method::PATCH if kind.contains("merge-patch") => inner.merge(path, body),
            Method::PATCH => inner.apply(path, &body),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        };
        match done {
            Ok(object) => Response::new(Full::from(object.to_string())),
            Err(status) => refused(status),
        }
    }
}

impl Inner {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn create(&mut self, collection: &str, object: Value) -> Result<Value, StatusCode> {
        let name = object["metadata"]["name"].as_str();
        let path = format!("{collection}/{}", name.ok_or(StatusCode::BAD_REQUEST)?);
        if self.objects.contains_key(&path) {
            return Err(StatusCode::CONFLICT);
        }
        Ok(self.put(&path, object))
    }

    /// Returns the object at `path` if `change` is meant for its version.
    fn current(&self, path: &str, change: &Value) -> Result<Value, StatusCode> {
        let found = self.objects.get(path).ok_or(StatusCode::NOT_FOUND)?;
        let expected = &change["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != found["metadata"]["resourceVersion"] {
            return Err(StatusCode::CONFLICT);
        }
        Ok(found.clone())
    }

    fn replace(&mut self, path: &str, object: Value) -> Result<Value, StatusCode> {
        self.current(path, &object)?;
        Ok(self.put(path, object))
    }

    fn merge(&mut self, path: &str, patch: Value) -> Result<Value, StatusCode> {
        let mut object = self.current(path, &patch)?;
        merge(&mut object, patch);
        Ok(self.put(path, object))
    }

    /// Applies to webhook configurations, whose webhooks are told apart by their names.
    fn apply(&mut self, path: &str, wanted: &Value) -> Result<Value, StatusCode> {
        let mut object = self.current(path, wanted)?;
        for webhook in wanted["webhooks"].as_array().unwrap() {
            let mut known = object["webhooks"].as_array_mut().unwrap().iter_mut();
            let known = known.find(|known| known["name"] == webhook["name"]);
            merge(known.unwrap(), webhook.clone());
        }
        Ok(self.put(path, object))
    }
}

/// RFC 7386, without removal.
fn merge(object: &mut Value, patch: Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch,
    }
}

fn refused(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status
        .canonical_reason()
        .unwrap_or_default()
        .replace(' ', "");
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
        "reason": reason, "message": "refused by the script",
    });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
}
