//! Random histories of a cluster: whatever happens, every leaf that is served is verified by everybody.
//!
//! Replicas lose and regain the API server, publish and inject what they know, and have clocks of their own; pods come
//! and go; somebody wants authorities retired. Verified by rustls with real certificates.

use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    replica::Replica,
    testing::{HOUR, MINUTE, at, quick, request, verify},
    trust::Bundle,
};

/// The first replica never loses the API server: without any, nothing could be promised.
const REPLICAS: usize = 3;

/// How long a bundle must be good for: half of an authority's life, less what this cluster may take to act.
const GOOD_FOR: Duration = Duration::from_hours(3);

#[derive(Clone, Copy, Debug)]
enum Event {
    Pass(u64),
    Connect(usize, bool),
    Inject(usize),
    End(usize),
    Publish(usize),
    /// Whether anybody can write webhook configurations.
    Publishing(bool),
    Lead(usize, Sight),
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    published: bool,
    held: bool,
    retire: bool,
}

fn sight() -> impl Strategy<Value = Sight> {
    let chances = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    chances.prop_map(|(published, held, retire)| Sight {
        published,
        held,
        retire,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let replica = || 0..REPLICAS;
    prop_oneof![
        9 => (1..15_u64).prop_map(Event::Pass),
        1 => (1..REPLICAS, prop::bool::weighted(0.4)).prop_map(|(replica, up)| Event::Connect(replica, up)),
        3 => replica().prop_map(Event::Inject),
        2 => any::<usize>().prop_map(Event::End),
        2 => replica().prop_map(Event::Publish),
        1 => prop::bool::weighted(0.7).prop_map(Event::Publishing),
        3 => (replica(), sight()).prop_map(|(replica, sight)| Event::Lead(replica, sight)),
    ]
}

struct Server {
    replica: Replica,
    connected: bool,
    /// How far this replica's clock is ahead of the latest one.
    ahead: Duration,
}

struct World {
    passed: Duration,
    /// As the Secret holds it.
    stored: String,
    servers: Vec<Server>,
    /// Bundles in pods and when they were handed out.
    pods: Vec<(Bundle, Duration)>,
    published: Option<(Bundle, Duration)>,
    publishing: bool,
    changes: Vec<Change>,
    checked: HashSet<(Vec<u8>, Trusted)>,
}

impl World {
    fn new() -> Self {
        let lifetime = quick().authority_lifetime;
        let first = Authority::create(lifetime, at(Duration::ZERO)).unwrap();
        let server = |index: u32| Server {
            replica: Replica::new(
                quick(),
                request(quick().leaf_lifetime),
                f64::from(index) / 2.0,
            ),
            connected: true,
            ahead: quick().clock_skew * index / 2,
        };
        let mut world = Self {
            passed: Duration::ZERO,
            stored: Authorities::new(first).to_json().unwrap(),
            servers: (0..).take(REPLICAS).map(server).collect(),
            pods: Vec::new(),
            published: None,
            publishing: true,
            changes: Vec::new(),
            checked: HashSet::new(),
        };
        world.turns();
        world
    }

    fn clock(&self, server: usize) -> Timestamp {
        at(self.passed + self.servers[server].ahead)
    }

    fn shared(&self) -> Authorities {
        Authorities::from_json(&self.stored).unwrap()
    }

    /// What replicas do every few seconds. The first one also publishes.
    fn turns(&mut self) {
        let shared = Arc::new(self.shared());
        for index in 0..REPLICAS {
            let now = self.clock(index);
            let server = &mut self.servers[index];
            if server.connected {
                server.replica.confirm(shared.clone(), now).unwrap();
            }
            server.replica.renew(now).unwrap();
        }
        self.publish(0);
    }

    fn publish(&mut self, index: usize) {
        let bundle = self.servers[index].replica.bundle(self.clock(index));
        if let Some(bundle) = bundle.filter(|_| self.publishing) {
            self.published = Some((bundle.clone(), self.passed));
        }
    }

    fn lead(&mut self, index: usize, sight: Sight) {
        if !self.servers[index].connected {
            return;
        }
        let state = self.shared();
        let published = self.published.as_ref().map(|(bundle, _)| bundle.trusted());
        let held = self.pods.iter().map(|(bundle, _)| bundle.trusted());
        let observed = Observed {
            published: published.filter(|_| sight.published),
            held: sight.held.then(|| held.collect()),
            retire: sight.retire.then(|| state.signer().clone()),
        };
        let next = step(&quick(), &state, &observed, self.clock(index)).unwrap();
        if let Some((next, change)) = next {
            assert_ne!(change, Change::Restarted, "an authority expired unreplaced");
            self.stored = next.to_json().unwrap();
            self.changes.push(change);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Pass(minutes) => {
                self.passed += MINUTE * u32::try_from(minutes).unwrap();
                self.checked.clear();
                self.turns();
                let all = Sight {
                    published: true,
                    held: true,
                    retire: false,
                };
                self.lead(0, all);
            }
            Event::Connect(index, connected) => {
                self.servers[index].connected = connected;
                self.turns();
            }
            Event::Inject(index) => {
                let bundle = self.servers[index].replica.bundle(self.clock(index));
                self.pods
                    .extend(bundle.map(|bundle| (bundle.clone(), self.passed)));
            }
            Event::End(index) => {
                if !self.pods.is_empty() {
                    self.pods.swap_remove(index % self.pods.len());
                }
            }
            Event::Publish(index) => self.publish(index),
            Event::Publishing(works) => self.publishing = works,
            Event::Lead(index, sight) => {
                self.lead(index, sight);
                self.turns();
            }
        }
    }

    /// Every holder of a bundle verifies every leaf that is served, on the earliest and on the latest clock.
    fn check(&mut self) {
        let holders = self.pods.iter().chain(&self.published);
        let holders: Vec<_> = holders
            .filter(|(_, since)| self.passed <= *since + GOOD_FOR)
            .collect();
        for server in &self.servers {
            let leaf = server.replica.leaf().unwrap();
            let clocks = [at(self.passed), at(self.passed + quick().clock_skew)];
            if clocks.iter().any(|&now| !leaf.validity().contains(now)) {
                assert!(
                    !server.connected,
                    "a connected replica serves an expired leaf"
                );
                continue;
            }
            for (bundle, since) in &holders {
                if !self
                    .checked
                    .insert((leaf.chain()[0].to_vec(), bundle.trusted()))
                {
                    continue;
                }
                for now in clocks {
                    let verified = verify(leaf.chain(), bundle, now);
                    assert!(
                        verified.is_ok(),
                        "{verified:?} after {:?} with a bundle from {since:?}; {:?}",
                        self.passed,
                        self.changes
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_served_leaf_is_verified_by_every_bundle(events in prop::collection::vec(event(), 1..200)) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
            world.check();
        }
    }
}

#[test]
fn histories_like_these_rotate() {
    let mut world = World::new();
    world.apply(Event::Inject(1));
    for _ in 0..HOUR.as_secs() * 20 / MINUTE.as_secs() / 5 {
        world.apply(Event::Pass(5));
        world.check();
    }
    let rotations = world
        .changes
        .iter()
        .filter(|&&change| change == Change::Switched);
    assert!(rotations.count() >= 3, "{:?}", world.changes);
    assert!(
        world.changes.contains(&Change::Completed),
        "{:?}",
        world.changes
    );
}
