//! The control plane's certificates: one authority that all replicas share, leaves that live in memory, and a rotation
//! of both that no client notices.
//!
//! What it's made of, from the inside out:
//!
//! - [`certificate`], [`trust`]: certificates and bundles as they are read from PEM.
//! - [`authority`], [`leaf`]: making them.
//! - [`rotation`]: what follows the shared state ([`authorities`]); a function of state, observations and time.
//! - [`replica`]: what one replica may serve and hand out, given how old its view of the shared state is.
//! - [`store`], [`lease`]: the shared state and who may change it, as registers that compare and swap.
//! - [`resolver`], [`verifier`], [`server`]: rustls's two sides, swapped without a restart.
//! - [`keeper`]: one replica's turn through all of the above; [`follower`]: that of a replica which only serves.
//! - [`supplied`]: certificates that somebody else rotates, instead of all of the above but the resolver.
//!
//! Opens no port, chooses no cryptography provider (`stillwake_runtime::tls` does) and reads no configuration.

pub mod authorities;
pub mod authority;
pub mod certificate;
pub mod follower;
pub mod keeper;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod leaf;
pub mod lease;
mod presenter;
pub mod replica;
pub mod resolver;
pub mod rotation;
pub mod server;
pub mod store;
pub mod supplied;
pub mod trust;
pub mod verifier;

#[cfg(test)]
mod testing;
