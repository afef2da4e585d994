//! Random histories of a queue against what must hold in each of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const MAX_HELD: usize = 8;
const MAX_BYTES: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Event {
    Admit(usize),
    Leave(usize),
    Ready(u8),
    Gone(u8),
    DialFailed(usize),
    HandOver(usize),
    End(usize),
    Available(bool),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..60_usize).prop_map(Event::Admit),
        1 => any::<usize>().prop_map(Event::Leave),
        1 => (0..3_u8).prop_map(Event::Ready),
        1 => (0..3_u8).prop_map(Event::Gone),
        1 => any::<usize>().prop_map(Event::DialFailed),
        3 => any::<usize>().prop_map(Event::HandOver),
        2 => any::<usize>().prop_map(Event::End),
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
    handed: Vec<EndpointId>,
    finished: HashSet<Ticket>,
    bytes: HashMap<Ticket, usize>,
    arrived: HashMap<Ticket, Duration>,
    endpoints: HashSet<u8>,
    held_time: Duration,
}

impl Model {
    fn held(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    fn forget(&mut self, ticket: Ticket) {
        self.waiting.retain(|&waiting| waiting != ticket);
        self.leaving.retain(|&leaving| leaving != ticket);
        self.finished.insert(ticket);
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
        ..Settings::default()
    })
}

fn apply(model: &mut Model, queue: &mut Queue, start: Instant, event: Event) {
    let now = start + model.now;
    match event {
        Event::Admit(bytes) => {
            let bare = model.endpoints.is_empty();
            let room = model.held() < MAX_HELD && model.held_bytes() + bytes <= MAX_BYTES;
            match queue.admit(bytes, now) {
                Ok(ticket) => {
                    assert!(room || !bare, "admitted past a bound without an endpoint");
                    model.waiting.push(ticket);
                    model.bytes.insert(ticket, bytes);
                    model.arrived.insert(ticket, model.now);
                }
                Err(Refusal::Unavailable(_)) => assert!(bare, "refused though it runs"),
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
            let address = SocketAddr::from(([10, 0, 0, name], 80));
            queue.endpoint_ready(name.to_string(), vec![address], now);
            model.endpoints.insert(name);
        }
        Event::Gone(name) => {
            queue.endpoint_gone(&name.to_string());
            model.endpoints.remove(&name);
        }
        Event::DialFailed(index) => {
            if let Some(ticket) = pick(&model.leaving, index) {
                queue.dial_failed(ticket, now);
                model.leaving.retain(|&leaving| leaving != ticket);
                model.waiting.push(ticket);
                model.waiting.sort_unstable();
            }
        }
        Event::HandOver(index) => {
            if let Some(ticket) = pick(&model.leaving, index) {
                let handed = queue.hand_over(ticket, now).unwrap();
                model.forget(ticket);
                model.handed.push(handed.endpoint);
            }
        }
        Event::End(index) => {
            if let Some(endpoint) = pick(&model.handed, index) {
                queue.end(endpoint);
                model.handed.swap_remove(index % model.handed.len());
            }
        }
        Event::Available(true) => queue.set_availability(Availability::Available),
        Event::Available(false) => queue.set_availability(Availability::Unavailable {
            reason: "paused".into(),
        }),
        Event::Pass(milliseconds) => {
            let passed = Duration::from_millis(milliseconds);
            model.held_time += passed * u32::try_from(model.held()).unwrap();
            model.now += passed;
        }
    }
}

fn decide(model: &mut Model, queue: &mut Queue, start: Instant) {
    while let Some((ticket, decision)) = queue.next_decision(start + model.now) {
        assert_eq!(
            Some(&ticket),
            model.waiting.first(),
            "not the first in line"
        );
        assert!(!model.finished.contains(&ticket), "decided after its end");
        match decision {
            Decision::Release(_) => {
                assert!(!model.endpoints.is_empty(), "released to nobody");
                model.waiting.remove(0);
                model.leaving.push(ticket);
            }
            Decision::Expire(waited) => {
                assert_eq!(model.arrived[&ticket] + waited, model.now);
                assert!(waited >= Duration::from_secs(5), "expired early");
                model.forget(ticket);
            }
            Decision::Refuse(_) => {
                assert!(model.endpoints.is_empty(), "refused though it runs");
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
            prop_assert_eq!(count.held, model.held());
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
        for endpoint in model.handed {
            queue.end(endpoint);
        }
        prop_assert_eq!((queue.held(), queue.held_bytes()), (0, 0));
        prop_assert!(queue.endpoints().iter().all(|known| known.outstanding == 0));
    }
}
