//! Which Service ports this replica listens for, and whether it should be sent their connections. Synchronous: fed with
//! events and the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use stillwake_cluster::services::Family;
use tokio::time::Instant;

/// Names a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name, empty if it has none.
    pub port: String,
}

/// How this replica listens for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The Service port's `appProtocol`.
    pub app_protocol: Option<String>,
    /// Families of the Service.
    pub families: Vec<Family>,
    /// Number of our own port, which is bound.
    pub port: u16,
}

/// What should be published for one port and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    /// Whose port it is.
    pub(crate) port: ServicePort,
    /// How it is listened for.
    pub(crate) listening: Listening,
    /// The family.
    pub(crate) family: Family,
    /// Whether it should be sent connections; not known before it is known whether anybody serves.
    pub(crate) ready: Option<bool>,
}

/// All ports.
#[derive(Debug)]
pub(crate) struct Board {
    hold_down: Duration,
    entries: BTreeMap<ServicePort, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    listening: Option<Listening>,
    /// Families of which it is known who serves them.
    known: BTreeMap<Family, Turn>,
}

/// Whose turn it is: ours while nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Ours,
    /// Somebody serves; ours until then, if it was ours.
    OursUntil(Instant),
    Theirs,
}

impl Turn {
    fn is_ours(self, now: Instant) -> bool {
        match self {
            Self::Ours => true,
            Self::OursUntil(end) => now < end,
            Self::Theirs => false,
        }
    }
}

impl Board {
    /// Returns an empty board. A port stays ready for `hold_down` after a backend has appeared.
    pub(crate) fn new(hold_down: Duration) -> Self {
        Self {
            hold_down,
            entries: BTreeMap::new(),
        }
    }

    /// The port is listened for from now on, or in another way than before.
    pub(crate) fn listen(&mut self, port: ServicePort, listening: Listening) {
        self.entries.entry(port).or_default().listening = Some(listening);
    }

    /// The port is not served any longer.
    pub(crate) fn withdraw(&mut self, port: &ServicePort) {
        self.entries.remove(port);
    }

    /// No port is served any longer.
    pub(crate) fn withdraw_all(&mut self) {
        self.entries.clear();
    }

    /// These families of the port have a backend that serves and is not terminating, and the others have none.
    pub(crate) fn backends(
        &mut self,
        port: &ServicePort,
        serving: &BTreeSet<Family>,
        now: Instant,
    ) {
        let entry = self.entries.entry(port.clone()).or_default();
        for family in [Family::IPv4, Family::IPv6] {
            let before = entry.known.get(&family).copied();
            let turn = match before {
                _ if !serving.contains(&family) => Turn::Ours,
                // Who was ready is believed to get connections until every node has heard.
                Some(Turn::Ours) => Turn::OursUntil(now + self.hold_down),
                Some(Turn::OursUntil(end)) => Turn::OursUntil(end),
                // Who was not known to be needed has not been ready.
                Some(Turn::Theirs) | None => Turn::Theirs,
            };
            entry.known.insert(family, turn);
        }
    }

    /// Returns what should be published now.
    pub(crate) fn desired(&self, now: Instant) -> impl Iterator<Item = Desired> {
        let entries = self.entries.iter();
        entries.flat_map(move |(port, entry)| {
            let listening = entry.listening.iter();
            listening.flat_map(move |listening| {
                listening.families.iter().map(move |&family| Desired {
                    port: port.clone(),
                    listening: listening.clone(),
                    family,
                    ready: entry.known.get(&family).map(|turn| turn.is_ours(now)),
                })
            })
        })
    }

    /// Returns when that changes without any event.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        let turns = self.entries.values().flat_map(|entry| entry.known.values());
        let ends = turns.filter_map(|turn| match turn {
            Turn::OursUntil(end) => Some(*end),
            Turn::Ours | Turn::Theirs => None,
        });
        ends.filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        board: Board,
        start: Instant,
    }

    fn port() -> ServicePort {
        ServicePort {
            namespace: "shop".to_owned(),
            service: "web".to_owned(),
            port: "http".to_owned(),
        }
    }

    fn listening(families: &[Family]) -> Listening {
        Listening {
            app_protocol: None,
            families: families.into(),
            port: 20000,
        }
    }

    impl Fixture {
        fn listening() -> Self {
            let mut board = Board::new(SECOND);
            board.listen(port(), listening(&[Family::IPv4]));
            let start = Instant::now();
            Self { board, start }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn serve(&mut self, families: &[Family], seconds: f64) {
            let families = families.iter().copied().collect();
            self.board.backends(&port(), &families, self.at(seconds));
        }

        fn ready(&self, seconds: f64) -> Vec<(Family, Option<bool>)> {
            let desired = self.board.desired(self.at(seconds));
            desired
                .map(|desired| (desired.family, desired.ready))
                .collect()
        }

        fn is_ready(&self, seconds: f64) -> bool {
            match self.ready(seconds)[..] {
                [(Family::IPv4, Some(ready))] => ready,
                ref other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_port_is_not_ready_before_it_is_known_that_nobody_serves() {
        let mut fixture = Fixture::listening();
        assert_eq!(fixture.ready(0.0), [(Family::IPv4, None)]);
        fixture.serve(&[], 1.0);
        assert!(fixture.is_ready(1.0), "at once");
    }

    #[test]
    fn a_port_that_somebody_serves_from_the_start_is_never_ready() {
        let mut fixture = Fixture::listening();
        fixture.serve(&[Family::IPv4], 0.0);
        assert!(!fixture.is_ready(0.0));
        assert_eq!(fixture.board.next_change(fixture.at(0.0)), None);
    }

    #[test]
    fn a_backend_makes_it_unready_after_the_hold_down() {
        let mut fixture = Fixture::listening();
        fixture.serve(&[], 0.0);
        fixture.serve(&[Family::IPv4], 10.0);
        let change = fixture.board.next_change(fixture.at(10.0));
        assert_eq!(change, Some(fixture.at(11.0)));
        fixture.serve(&[Family::IPv4], 10.9);
        assert!(fixture.is_ready(10.99));
        assert!(!fixture.is_ready(11.0), "more backends do not prolong it");
        assert_eq!(fixture.board.next_change(fixture.at(11.0)), None);
    }

    #[test]
    fn a_backend_that_goes_again_leaves_it_ready() {
        let mut fixture = Fixture::listening();
        fixture.serve(&[], 0.0);
        fixture.serve(&[Family::IPv4], 10.0);
        fixture.serve(&[], 10.5);
        assert!(fixture.is_ready(12.0));
        fixture.serve(&[Family::IPv4], 12.0);
        assert!(fixture.is_ready(12.9));
        fixture.serve(&[Family::IPv4], 14.0);
        assert!(!fixture.is_ready(14.0));
        fixture.serve(&[], 15.0);
        assert!(fixture.is_ready(15.0), "at once");
    }

    #[test]
    fn families_are_ready_each_for_itself() {
        let mut fixture = Fixture::listening();
        let both = listening(&[Family::IPv6, Family::IPv4]);
        fixture.board.listen(port(), both);
        fixture.serve(&[Family::IPv4], 0.0);
        let ready = [(Family::IPv6, Some(true)), (Family::IPv4, Some(false))];
        assert_eq!(fixture.ready(0.0), ready);
    }

    #[test]
    fn what_is_known_before_it_is_listened_for_counts() {
        let mut fixture = Fixture::listening();
        fixture.board.withdraw(&port());
        assert_eq!(fixture.ready(0.0), []);
        fixture.serve(&[], 0.0);
        assert_eq!(fixture.ready(0.0), [], "nothing listens");
        fixture.board.listen(port(), listening(&[Family::IPv4]));
        assert!(fixture.is_ready(0.0));
        fixture.board.withdraw_all();
        assert_eq!(fixture.ready(0.0), []);
    }
}
