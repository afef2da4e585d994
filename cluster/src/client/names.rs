//! Finds the addresses of an API server that is given by name, as some platforms do in pods and kubeconfigs do outside.
//!
//! Asks the name servers itself: the C library's resolver loads parts of itself when it is first used, which a static
//! binary cannot do that is alone in its image. An API server given by address never comes here.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hickory_resolver::{TokioResolver, net::NetError};
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

/// Resolves by `/etc/hosts` and the name servers of `/etc/resolv.conf`, both read anew each time: connections are few.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names;

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NetError;
    type Future = BoxFuture<'static, Result<Self::Response, NetError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let resolver = TokioResolver::builder_tokio()?.build()?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            // The connector puts in the port.
            let addresses: Vec<_> = found
                .iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            Ok(addresses.into_iter())
        })
    }
}
