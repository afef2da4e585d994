//! What the state answers after restarts, losses, delays, silence and jumps of the clock.

mod bursts;
mod endpoints;
mod holding;
mod knowing;
mod load;
mod refused;
mod uncounted;

use std::time::Duration;

use stillwake_proto::report::{
    Count, Endpoint, Held, HeldReport, Hello, PodReport, Port, Role, Workload,
};
use tokio::time::Instant;

use super::*;
use crate::{history::Rejected, identity::Identity};

const WINDOW: Duration = Duration::from_mins(1);

/// A state with one `ScaledObject` `shop/web`, polled every 5 s, and a clock that tests move.
struct World {
    state: State,
    began: Instant,
    now: Instant,
    next: u64,
}

/// One process of a reporter, born at some time of the world.
#[derive(Clone, Copy)]
struct Process {
    connection: ConnectionId,
    born: Instant,
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: "web".to_owned(),
    }
}

fn key() -> ScaledObjectKey {
    ScaledObjectKey {
        namespace: "shop".to_owned(),
        name: "web-scaler".to_owned(),
    }
}

fn object() -> ScaledObject {
    ScaledObject {
        namespace: key().namespace,
        name: key().name,
        workload: workload(),
        polling_interval: seconds(5),
        max_replicas: 100,
        paused: false,
    }
}

fn pod(uid: &str, ready: bool) -> MembershipEvent {
    MembershipEvent::Pod(Pod {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        workload: workload(),
        ready,
        terminating: false,
        reports: true,
    })
}

fn gone(uid: &str) -> MembershipEvent {
    MembershipEvent::PodGone {
        uid: uid.to_owned(),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    /// A world that knows its one `ScaledObject` and no pod, and answers with averages only.
    fn new() -> Self {
        Self::with(Settings {
            bursts: false,
            ..Settings::default()
        })
    }

    /// The same with other settings.
    fn with(settings: Settings) -> Self {
        let began = Instant::now();
        let mut world = Self {
            state: State::new(settings, began),
            began,
            now: began,
            next: 0,
        };
        world.apply(MembershipEvent::ScaledObject(object()));
        world
    }

    /// A world that has been synced for longer than the grace.
    fn old() -> Self {
        let mut world = Self::new();
        world.apply(MembershipEvent::Synced);
        world.pass(seconds(300));
        world.state.effects();
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn apply(&mut self, event: MembershipEvent) {
        self.state.apply(event, self.now);
    }

    fn connect(&mut self, uid: &str, role: Role, epoch: u64, born: Instant) -> Process {
        self.next += 1;
        let connection = ConnectionId(self.next);
        let identity = Identity {
            role,
            namespace: "shop".to_owned(),
            pod: format!("pod-{uid}"),
            uid: uid.to_owned(),
        };
        let hello = Hello {
            epoch,
            role: role.into(),
            uid: uid.to_owned(),
            address: "10.0.0.1".to_owned(),
            ports: vec![Port {
                listen: 15080,
                app: 8080,
            }],
            ..Hello::default()
        };
        self.state.hello(connection, &identity, &hello, self.now);
        Process { connection, born }
    }

    fn sidecar(&mut self, uid: &str) -> Process {
        self.connect(uid, Role::Sidecar, 1, self.now)
    }

    fn activator(&mut self, uid: &str) -> Process {
        self.connect(uid, Role::Activator, 1, self.now)
    }

    fn leave(&mut self, process: Process) {
        self.state.disconnected(process.connection, self.now);
    }

    fn elapsed(&self, process: Process) -> u64 {
        u64::try_from((self.now - process.born).as_micros()).unwrap()
    }

    /// A ready sidecar's report, made now.
    fn made(&self, process: Process, in_flight: u64, area: Duration, requests: u64) -> PodReport {
        PodReport {
            elapsed: self.elapsed(process),
            count: Some(Count {
                in_flight,
                in_flight_time: u64::try_from(area.as_micros()).unwrap(),
                requests,
            }),
            app_ready: true,
            draining: false,
        }
    }

    fn deliver(&mut self, process: Process, report: &PodReport) -> Result<(), Rejected> {
        self.state.pod_report(process.connection, report, self.now)
    }

    fn report(&mut self, process: Process, in_flight: u64, area: Duration, requests: u64) {
        let report = self.made(process, in_flight, area, requests);
        self.deliver(process, &report).unwrap();
    }

    fn hold(&mut self, process: Process, held: u64, requests: u64) -> Vec<Endpoint> {
        let count = Count {
            in_flight: held,
            in_flight_time: 0,
            requests,
        };
        let report = HeldReport {
            elapsed: self.elapsed(process),
            held: vec![Held {
                workload: Some(workload()),
                count: Some(count),
            }],
        };
        self.state
            .held_report(process.connection, &report, self.now)
            .unwrap()
    }

    fn ask(&mut self) -> Result<Load, Unknown> {
        self.state.load(&key(), WINDOW, self.now)
    }

    fn load(&mut self) -> Load {
        self.ask().unwrap()
    }

    fn wake(&mut self) -> Wake {
        self.state.wake_state(&key(), self.now)
    }

    fn endpoint_effects(&mut self) -> Vec<(ConnectionId, String, bool)> {
        let effects = self.state.effects().into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Endpoint(to, endpoint) => Some((to, endpoint.uid, endpoint.ready)),
                _ => None,
            })
            .collect()
    }
}
