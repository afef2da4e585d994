//! Random histories of a queue against what must hold in each of them.

use std::{collections::HashSet, net::SocketAddr};

use proptest::prelude::*;

use super::{tests::route, *};

/// The app's ports that requests come for. Aggregators' endpoints have both; listed ones are listed for one.
const PORTS: [u16; 2] = [8080, 9000];

const MAX_HELD: usize = 8;
const MAX_BYTES: usize = 200;
const BREAKER_FAILURES: u32 = 2;
const PROBE_GAP_LIMIT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
enum Event {
    Admit(usize, usize),
    Leave(usize),
    Ready(u8),
    Gone(u8),
    Listed(usize, u8),
    DialFailed(usize),
    HandOver(usize),
    End(usize),
    Unanswered(usize, bool),
    Available(bool),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..PORTS.len(), 1..60_usize).prop_map(|(port, bytes)| Event::Admit(port, bytes)),
        1 => any::<usize>().prop_map(Event::Leave),
        1 => (0..3_u8).prop_map(Event::Ready),
        1 => (0..3_u8).prop_map(Event::Gone),
        1 => (0..PORTS.len(), 0..8_u8).prop_map(|(port, names)| Event::Listed(port, names)),
        1 => any::<usize>().prop_map(Event::DialFailed),
        3 => any::<usize>().prop_map(Event::HandOver),
        2 => any::<usize>().prop_map(Event::End),
        1 => any::<(usize, bool)>().prop_map(|(index, again)| Event::Unanswered(index, again)),
        1 => prop::bool::weighted(0.8).prop_map(Event::Available),
        3 => (1..1500_u64).prop_map(Event::Pass),
    ]
}

/// The plainest account of what a queue is told and answers.
#[derive(Default)]
struct Model {
    now: Duration,
    waiting: Vec<Ticket>,
    leaving: Vec<Ticket>,
    /// Those of them that were released as they came.
    passing: HashSet<Ticket>,
    handed: Vec<HandedOver>,
    finished: HashSet<Ticket>,
    bytes: HashMap<Ticket, usize>,
    arrived: HashMap<Ticket, Duration>,
    ports: HashMap<Ticket, usize>,
    reported: HashSet<u8>,
    /// The endpoints listed for each port, as bits.
    listed: [u8; PORTS.len()],
    /// Hold deadlines on each port since an endpoint last accepted a request of it.
    expired: [u32; PORTS.len()],
    held_time: Duration,
}

impl Model {
    fn held(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    fn counted(&self) -> usize {
        self.held() - self.passing.len()
    }

    /// Whether a port has no endpoint.
    fn is_bare(&self, port: usize) -> bool {
        self.reported.is_empty() && self.listed[port] == 0
    }

    /// Returns who waits on a port.
    fn line(&self, port: usize) -> impl Iterator<Item = Ticket> {
        let waiting = self.waiting.iter().copied();
        waiting.filter(move |ticket| self.ports[ticket] == port)
    }

    fn take_handed(&mut self, index: usize) -> Option<HandedOver> {
        let handed = (!self.handed.is_empty()).then(|| index % self.handed.len())?;
        Some(self.handed.swap_remove(handed))
    }

    fn forget(&mut self, ticket: Ticket) {
        self.waiting.retain(|&waiting| waiting != ticket);
        self.leaving.retain(|&leaving| leaving != ticket);
        self.passing.remove(&ticket);
        self.finished.insert(ticket);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.held() < MAX_HELD && self.held_bytes() + bytes <= MAX_BYTES
    }

    fn held_bytes(&self) -> usize {
        let held = self.waiting.iter().chain(&self.leaving);
        held.map(|ticket| self.bytes[ticket]).sum()
    }
}

fn pick<T: Copy>(from: &[T], index: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[index % from.len()])
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        max_held: MAX_HELD,
        max_held_bytes: MAX_BYTES,
        hold_timeout: Duration::from_secs(5),
        endpoint_concurrency: 2,
        pacing_limit: Duration::from_secs(1),
        breaker_failures: BREAKER_FAILURES,
        probe_gap: Duration::from_secs(1),
        probe_gap_limit: PROBE_GAP_LIMIT,
        ..Settings::default()
    })
}

fn apply(model: &mut Model, queue: &mut Queue, start: Instant, event: Event) {
    let now = start + model.now;
    match event {
        Event::Admit(port, bytes) => {
            let bare = model.is_bare(port);
            let room = model.has_room(bytes);
            let usable = queue.endpoints().best(&route(PORTS[port]), now).is_some();
            match queue.admit(&route(PORTS[port]), bytes, now) {
                Ok(ticket) => {
                    assert!(room || !bare, "admitted past a bound without an endpoint");
                    model.waiting.push(ticket);
                    model.bytes.insert(ticket, bytes);
                    model.ports.insert(ticket, port);
                    model.arrived.insert(ticket, model.now);
                }
                Err(Refusal::Unavailable(_)) => assert!(bare, "refused though it runs"),
                Err(Refusal::Broken(broken)) => {
                    assert!(!usable, "refused though there is an endpoint");
                    assert!(model.expired[port] >= BREAKER_FAILURES, "has not failed");
                    assert!(broken.next_probe <= PROBE_GAP_LIMIT, "tried too rarely");
                }
                Err(_) => assert!(!room, "refused though there is room"),
            }
        }
        Event::Leave(index) => {
            let held: Vec<_> = model
                .waiting
                .iter()
                .chain(&model.leaving)
                .copied()
                .collect();
            if let Some(ticket) = pick(&held, index) {
                queue.leave(ticket, now);
                model.forget(ticket);
            }
        }
        Event::Ready(name) => {
            let address = IpAddr::from([10, 0, 0, name]);
            queue.endpoint_ready(name.to_string(), address, Vec::new(), now);
            model.reported.insert(name);
        }
        Event::Gone(name) => {
            queue.endpoint_gone(&name.to_string());
            model.reported.remove(&name);
        }
        Event::Listed(port, names) => {
            let listed = (0..3_u8).filter(|name| names & (1 << name) != 0);
            let endpoints = listed.map(|name| ListedEndpoint {
                uid: name.to_string(),
                addresses: vec![SocketAddr::from(([10, 0, 1, name], PORTS[port]))],
            });
            queue.endpoints_listed(&route(PORTS[port]), endpoints.collect(), now);
            model.listed[port] = names;
        }
        Event::DialFailed(index) => {
            if let Some(ticket) = pick(&model.leaving, index) {
                queue.dial_failed(ticket, now);
                model.leaving.retain(|&leaving| leaving != ticket);
                model.passing.remove(&ticket);
                model.waiting.push(ticket);
                model.waiting.sort_unstable();
            }
        }
        Event::HandOver(index) => {
            if let Some(ticket) = pick(&model.leaving, index) {
                let handed = queue.hand_over(ticket, now).unwrap();
                model.forget(ticket);
                model.expired[model.ports[&ticket]] = 0;
                model.handed.push(handed);
            }
        }
        Event::End(index) => {
            if let Some(handed) = model.take_handed(index) {
                queue.end(&handed);
            }
        }
        Event::Unanswered(index, again) => {
            if let Some(handed) = model.take_handed(index) {
                queue.unanswered(&handed, now);
                if again {
                    hold_again(model, queue, handed, now);
                }
            }
        }
        Event::Available(true) => queue.set_availability(Availability::Available),
        Event::Available(false) => queue.set_availability(Availability::Unavailable {
            reason: "paused".into(),
        }),
        Event::Pass(milliseconds) => {
            let passed = Duration::from_millis(milliseconds);
            model.held_time += passed * u32::try_from(model.counted()).unwrap();
            model.now += passed;
        }
    }
}

fn hold_again(model: &mut Model, queue: &mut Queue, handed: HandedOver, now: Instant) {
    let ticket = handed.ticket;
    let room = model.has_room(model.bytes[&ticket]);
    match queue.hold_again(handed, now) {
        Ok(held) => {
            assert_eq!(held, ticket);
            assert!(room, "held again past a bound");
            model.finished.remove(&ticket);
            model.waiting.push(ticket);
            model.waiting.sort_unstable();
        }
        Err(Refusal::Unavailable(_)) => {
            assert!(
                model.is_bare(model.ports[&ticket]),
                "refused though it runs"
            );
        }
        Err(_) => assert!(!room, "refused though there is room"),
    }
}

fn decide(model: &mut Model, queue: &mut Queue, start: Instant) {
    while let Some((ticket, decision)) = queue.next_decision(start + model.now) {
        let port = model.ports[&ticket];
        assert_eq!(
            Some(ticket),
            model.line(port).next(),
            "not the first in its line"
        );
        assert!(!model.finished.contains(&ticket), "decided after its end");
        match decision {
            Decision::Release(release) => {
                assert!(!model.is_bare(port), "released to nobody");
                let leads = |address: &SocketAddr| address.port() == PORTS[port];
                assert!(release.addresses.iter().all(leads), "led to another port");
                assert!(!release.addresses.is_empty(), "led nowhere");
                model.waiting.retain(|&waiting| waiting != ticket);
                model.leaving.push(ticket);
                if model.arrived[&ticket] == model.now {
                    model.passing.insert(ticket);
                }
            }
            Decision::Expire(waited) => {
                assert_eq!(model.arrived[&ticket] + waited, model.now);
                assert!(waited >= Duration::from_secs(5), "expired early");
                model.expired[port] += 1;
                model.forget(ticket);
            }
            Decision::Refuse(_) => {
                assert!(model.is_bare(port), "refused though it runs");
                model.forget(ticket);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_history_keeps_bounds_order_and_counts(events in prop::collection::vec(event(), 1..200)) {
        let start = Instant::now();
        let mut queue = Queue::new(settings(), start);
        let mut model = Model::default();
        for event in events {
            apply(&mut model, &mut queue, start, event);
            decide(&mut model, &mut queue, start);
            let now = start + model.now;
            let count = queue.count(now);
            prop_assert_eq!(count.held, model.counted());
            prop_assert_eq!(queue.held(), model.held());
            prop_assert_eq!(count.held_time, model.held_time);
            prop_assert_eq!(count.requests, model.bytes.len() as u64);
            prop_assert_eq!(queue.held_bytes(), model.held_bytes());
            prop_assert!(queue.held() <= MAX_HELD * PACED_ROOM);
            let outstanding: usize = queue.endpoints().iter().map(|known| known.outstanding).sum();
            prop_assert!(outstanding <= model.leaving.len() + model.handed.len());
            if let Some(due) = queue.next_wakeup(now) {
                prop_assert!(due > now, "a decision was due and not taken");
            } else {
                prop_assert!(model.waiting.is_empty(), "nothing will ever decide on what waits");
            }
        }
        let all: Vec<_> = model.waiting.iter().chain(&model.leaving).copied().collect();
        for ticket in all {
            queue.leave(ticket, start + model.now);
        }
        for handed in model.handed {
            queue.end(&handed);
        }
        prop_assert_eq!((queue.held(), queue.held_bytes()), (0, 0));
        prop_assert!(queue.endpoints().iter().all(|known| known.outstanding == 0));
    }
}
