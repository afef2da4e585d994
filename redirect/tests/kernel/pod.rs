//! A pod's network and somebody outside it, connected as a container network does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use stillwake_redirect::{PortRedirect, RedirectError};

use crate::{
    namespace::{Namespace, has, left_out},
    server::{Client, Server},
};

pub(crate) const POD_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 80, 0, 2));
pub(crate) const POD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 2));

/// A port that only the test's own set-up uses.
const PROBED: u16 = 7;

/// How often, and how long after another, the pod is tried before it is given up.
const ATTEMPTS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// Two network namespaces with a link between them.
pub(crate) struct Pod {
    pub(crate) inside: Namespace,
    pub(crate) outside: Namespace,
}

impl Pod {
    /// Makes the pod and waits until it can be reached; none if that cannot be done here, which it says.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let namespaces = (Namespace::new(), Namespace::new());
        let (Ok(inside), Ok(outside)) = namespaces else {
            let reason = "network namespaces cannot be made; run it as root, or by \
                          `unshare --map-root-user cargo test -p stillwake-redirect`";
            left_out(test, reason);
            return None;
        };
        if !has("ip", test) {
            return None;
        }
        let id = inside.id();
        let link = [
            "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", id,
        ];
        outside.command("ip", &link);
        set_up(&inside, 2);
        set_up(&outside, 1);
        let pod = Self { inside, outside };
        pod.wait_until_reachable();
        Some(pod)
    }

    /// The link takes a moment to come up.
    fn wait_until_reachable(&self) {
        let _probed = Server::start(&self.inside, "probed", PROBED);
        for address in [POD_V4, POD_V6] {
            let reached = (0..ATTEMPTS).any(|_| {
                let answer = self.outside_asks(address, PROBED);
                if answer.is_err() {
                    thread::sleep(PAUSE);
                }
                answer.is_ok()
            });
            assert!(reached, "{address} cannot be reached");
        }
    }

    /// Dials from outside, and returns who answered and what he was dialled at.
    pub(crate) fn outside_asks(&self, address: IpAddr, port: u16) -> io::Result<String> {
        Client::connect(&self.outside, (address, port).into()).map(|client| client.greeting)
    }

    /// Dials from inside, and returns who answered and what he was dialled at.
    pub(crate) fn inside_asks(&self, address: IpAddr, port: u16) -> io::Result<String> {
        Client::connect(&self.inside, (address, port).into()).map(|client| client.greeting)
    }

    /// Calls [`stillwake_redirect::apply`] inside.
    pub(crate) fn apply(&self, pairs: &[(u16, u16)]) -> Result<(), RedirectError> {
        let redirects = redirects(pairs);
        self.inside
            .run(move || stillwake_redirect::apply(&redirects))
    }

    /// Calls [`stillwake_redirect::verify`] inside.
    pub(crate) fn verify(&self, pairs: &[(u16, u16)]) -> Result<(), RedirectError> {
        let redirects = redirects(pairs);
        self.inside
            .run(move || stillwake_redirect::verify(&redirects))
    }
}

/// Returns redirects from pairs as on the command line: listen, app.
pub(crate) fn redirects(pairs: &[(u16, u16)]) -> Vec<PortRedirect> {
    pairs
        .iter()
        .map(|&(listen, app)| PortRedirect { listen, app })
        .collect()
}

fn set_up(namespace: &Namespace, host: u8) {
    let v4 = format!("10.80.0.{host}/24");
    // Without `nodad`, it could not be used for a second.
    let v6 = format!("fd80::{host}/64");
    namespace.command("ip", &["link", "set", "lo", "up"]);
    namespace.command("ip", &["address", "add", &v4, "dev", "eth0"]);
    namespace.command("ip", &["address", "add", &v6, "dev", "eth0", "nodad"]);
    namespace.command("ip", &["link", "set", "eth0", "up"]);
}
