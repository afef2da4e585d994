//! Makes the kernel hand connections from outside the pod to the sidecar, although clients dial the app's port.
//!
//! It is for one process that runs before the app, inside the pod's network namespace and with `NET_ADMIN`: it writes one
//! nftables table, reads it back, and is done. What it makes reads, in the words of `nft list ruleset`:
//!
//! ```text
//! table inet stillwake {
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         iifname != "lo" tcp dport 8080 redirect to :15080
//!     }
//! }
//! ```
//!
//! Only what arrives from outside passes the hook `prerouting` on an interface other than `lo`. So the sidecar, which
//! dials the pod's own address, reaches the app, and so do the pod's other containers.
//!
//! What it does not do: tables of others are left alone; which ports may be redirected, and whether a mesh
//! is there already, is decided at admission. The redirected connection arrives at the first address of the interface
//! it came in by; the address and port that the client dialled are in `SO_ORIGINAL_DST`.
//!
//! The kernel is spoken to by netlink directly, without the program `nft`, so that this works in an image that holds one
//! binary and nothing else.

mod difference;
mod error;
mod kernel;
mod netlink;
mod nf_tables;
mod ports;
mod ruleset;
mod transaction;

pub use error::RedirectError;
pub use ports::{PortRedirect, PortsError};

use kernel::Kernel;

/// Makes connections from outside for each app port arrive at its listen port, in the calling thread's network namespace.
///
/// Replaces in one step whatever an earlier call has made: there is no moment without rules, a second call changes
/// nothing, and connections that are redirected go on. It is to be called before the app listens: the kernel takes
/// established connections that it did not follow until now for new ones, and the redirect cuts them. Returns once the
/// kernel, asked for its rules, has shown those that were meant.
///
/// # Errors
///
/// Says what is missing: the capability, a part of the kernel, or a rule. The kernel makes all rules or none.
pub fn apply(redirects: &[PortRedirect]) -> Result<(), RedirectError> {
    ports::check(redirects)?;
    let mut kernel = Kernel::connect()?;
    kernel.commit(ruleset::changes(redirects))?;
    read_back(&mut kernel, redirects)
}

/// Checks that the calling thread's network namespace has the rules that [`apply`] makes, and in our table no others.
///
/// # Errors
///
/// [`RedirectError::NotInEffect`] says what is missing. The kernel shows its rules only to who may change them.
pub fn verify(redirects: &[PortRedirect]) -> Result<(), RedirectError> {
    ports::check(redirects)?;
    read_back(&mut Kernel::connect()?, redirects)
}

fn read_back(kernel: &mut Kernel, redirects: &[PortRedirect]) -> Result<(), RedirectError> {
    let chains = kernel.list(&ruleset::CHAINS)?;
    let rules = kernel.list(&ruleset::RULES)?;
    match difference::between(redirects, &chains, &rules)? {
        None => Ok(()),
        Some(difference) => Err(RedirectError::NotInEffect { difference }),
    }
}
