//! Watches of several kinds as one stream of facts.
//!
//! Lists, follows and starts over by kube's watcher; a relist is told as what it changed. What a fact means is for the
//! index that is fed with it.

mod follower;
pub(crate) mod outage;

use std::fmt::Debug;

use futures_util::{
    StreamExt as _, future,
    stream::{self, BoxStream, SelectAll},
};
use kube::{
    Api, Client, Resource,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;

use self::follower::Follower;
use crate::{
    metrics::Metrics,
    object::ObjectName,
    scope::{Place, Scope},
};

/// A kind as a watch decodes it.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static
{
    /// What is kept of an object.
    type Kept: Send + 'static;

    /// What has to be installed for the API server to know the kind, where that can be missing.
    const COMES_WITH: Option<&'static str> = None;

    /// Takes what is needed.
    ///
    /// # Errors
    ///
    /// Says why the object cannot be read.
    fn keep(self) -> Result<Self::Kept, String>;
}

/// Makes a fact of an object by its name, of `None` when it is gone.
pub(crate) type Observe<K, O> = fn(ObjectName, Option<<K as Watched>::Kept>) -> O;

/// What the watches say.
#[derive(Debug, PartialEq)]
pub(crate) enum Told<O> {
    /// An object as it is now, or that it is gone. May repeat.
    Observed(O),
    /// Every watch has listed. Comes once.
    Synced,
}

/// What one watch says.
#[derive(Debug, PartialEq)]
enum Said<O> {
    Observed(O),
    /// It has listed for the first time.
    Listed,
}

/// All watches of one index.
pub(crate) struct Watches<O> {
    client: Client,
    scope: Scope,
    metrics: Metrics,
    streams: SelectAll<BoxStream<'static, Said<O>>>,
    unlisted: usize,
}

impl<O: Send + 'static> Watches<O> {
    pub(crate) fn new(client: Client, scope: Scope, metrics: Metrics) -> Self {
        Self {
            client,
            scope,
            metrics,
            streams: SelectAll::new(),
            unlisted: 0,
        }
    }

    /// Watches what `config` selects of a kind that lives in namespaces.
    pub(crate) fn namespaced<K>(mut self, config: &watcher::Config, observe: Observe<K, O>) -> Self
    where
        K: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        for (api, place) in self.scope.namespaced::<K>(&self.client) {
            self.add(api, config.clone(), &place, observe);
        }
        self
    }

    /// Watches the Namespace objects of the scope.
    pub(crate) fn namespaces<K: Watched>(mut self, observe: Observe<K, O>) -> Self {
        for (config, place) in self.scope.namespaces() {
            self.add(Api::<K>::all(self.client.clone()), config, &place, observe);
        }
        self
    }

    fn add<K: Watched>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        place: &Place,
        observe: Observe<K, O>,
    ) {
        let failures = self.metrics.watch_failures(&K::kind(&()));
        let mut follower = Follower::new(place, observe, failures);
        let watch = watcher(api, config).default_backoff();
        let said = watch.flat_map(move |event| stream::iter(follower.take(event)));
        self.streams.push(said.boxed());
        self.unlisted += 1;
    }

    /// Returns what is said next.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Told<O> {
        loop {
            match self.streams.next().await {
                Some(Said::Observed(fact)) => return Told::Observed(fact),
                Some(Said::Listed) => {
                    self.unlisted -= 1;
                    if self.unlisted == 0 {
                        return Told::Synced;
                    }
                }
                // A watch never ends, and there is at least one.
                None => future::pending().await,
            }
        }
    }
}
