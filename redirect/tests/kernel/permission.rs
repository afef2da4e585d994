//! What a process hears that may not do it.

use std::thread;

use rustix::{
    process::{Uid, geteuid},
    thread::{CapabilitySet, capabilities, set_capabilities, set_thread_res_uid},
};
use stillwake_redirect::{RedirectError, apply};

use crate::{
    namespace::{Namespace, left_out},
    pod::{Pod, redirects},
};

/// Applies on a thread of its own, after it has given up what `give_up` takes from it.
fn refused_after(
    namespace: &Namespace,
    give_up: impl FnOnce() -> rustix::io::Result<()> + Send + 'static,
) -> Option<RedirectError> {
    // Capabilities and users are a thread's, to the kernel.
    namespace.run(move || {
        let thread = thread::spawn(move || {
            give_up().ok()?;
            Some(apply(&redirects(&[(15080, 8080)])).unwrap_err())
        });
        thread.join().unwrap()
    })
}

#[test]
fn without_the_capability_it_is_named() {
    let Some(pod) = Pod::start("the error without NET_ADMIN") else {
        return;
    };
    let error = refused_after(&pod.inside, || {
        let mut sets = capabilities(None)?;
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets)
    })
    .expect("a process may give up a capability");
    assert!(
        matches!(error, RedirectError::NotPermitted { user: 0, .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("NET_ADMIN"), "{said}");
    assert!(said.contains("capabilities.add"), "{said}");
    assert!(!said.contains("user"), "{said}");
}

#[test]
fn another_user_than_root_hears_why_the_capability_is_not_enough() {
    let Some(pod) = Pod::start("the error of another user") else {
        return;
    };
    assert!(
        geteuid().is_root(),
        "who can make namespaces is root in them"
    );
    let user = Uid::from_raw(65532);
    let Some(error) = refused_after(&pod.inside, move || set_thread_res_uid(user, user, user))
    else {
        left_out(
            "the error of another user",
            "this user namespace has no other user than root",
        );
        return;
    };
    assert!(
        matches!(error, RedirectError::NotPermitted { user: 65532, .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("NET_ADMIN"), "{said}");
    assert!(said.contains("as user 0"), "{said}");
    assert!(said.contains("65532"), "{said}");
}
