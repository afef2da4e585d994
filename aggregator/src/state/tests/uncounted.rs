//! Ready pods without a sidecar, and when that is told.

use super::*;
use crate::notice::Notice;

fn plain(uid: &str, ready: bool) -> MembershipEvent {
    MembershipEvent::Pod(Pod {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        workload: workload(),
        ready,
        terminating: false,
        reports: false,
    })
}

/// The pods and their number that one notice names; neither if it says that there are none any more.
type Said = (Vec<String>, usize);

fn said(pods: &[&str]) -> Said {
    let names = pods.iter().map(|uid| format!("pod-{uid}"));
    (names.collect(), pods.len())
}

impl World {
    fn notices(&mut self) -> Vec<Said> {
        let notices = self.state.notices(self.now).into_iter();
        notices
            .map(|notice| match notice {
                Notice::Uncounted {
                    namespace,
                    name,
                    pods,
                    total,
                    ..
                } => {
                    assert_eq!(ScaledObjectKey { namespace, name }, key());
                    (pods, total)
                }
                Notice::Counted {
                    namespace, name, ..
                } => {
                    assert_eq!(ScaledObjectKey { namespace, name }, key());
                    said(&[])
                }
                Notice::Refused { .. } => panic!("{notice}"),
            })
            .collect()
    }
}

#[test]
fn a_pod_without_a_sidecar_is_told_once_it_lasts_and_when_it_is_gone() {
    let mut world = World::old();
    world.apply(pod("b", true));
    world.apply(plain("a", false));
    world.pass(seconds(100));
    assert_eq!(world.notices(), [], "it takes no traffic");
    world.apply(plain("a", true));
    world.pass(seconds(29));
    assert_eq!(world.notices(), [], "it may be gone in a moment");
    world.pass(seconds(1));
    assert_eq!(world.notices(), [said(&["a"])]);
    world.pass(seconds(3_600));
    assert_eq!(world.notices(), [], "nothing changed");
    world.apply(gone("a"));
    assert_eq!(world.notices(), [said(&[])]);
    world.pass(seconds(3_600));
    assert_eq!(world.notices(), []);
}

#[test]
fn a_change_of_the_pods_is_told_every_few_minutes_at_most() {
    let mut world = World::old();
    for uid in ["a", "b"] {
        world.apply(plain(uid, true));
    }
    world.pass(seconds(30));
    assert_eq!(world.notices(), [said(&["a", "b"])]);
    world.apply(gone("a"));
    world.apply(plain("c", true));
    world.pass(seconds(299));
    assert_eq!(world.notices(), []);
    world.pass(seconds(1));
    assert_eq!(world.notices(), [said(&["b", "c"])]);
    for uid in ["b", "c"] {
        world.apply(gone(uid));
    }
    assert_eq!(world.notices(), [said(&[])]);
    world.apply(plain("d", true));
    world.pass(seconds(299));
    assert_eq!(world.notices(), [], "it was told a moment ago");
    world.pass(seconds(1));
    assert_eq!(world.notices(), [said(&["d"])]);
}

#[test]
fn nothing_is_told_before_membership_is_whole_or_of_what_is_not_scaled() {
    let mut world = World::new();
    world.apply(plain("a", true));
    world.pass(seconds(100));
    assert_eq!(world.notices(), []);
    world.apply(MembershipEvent::Synced);
    assert_eq!(world.notices(), [said(&["a"])]);
    assert_eq!(world.state.uncounted_pods(), 1);
    let ScaledObjectKey { namespace, name } = key();
    world.apply(MembershipEvent::ScaledObjectGone { namespace, name });
    assert_eq!(world.notices(), []);
    assert_eq!(world.state.uncounted_pods(), 0);
    assert!(world.state.told.is_empty(), "nothing is left behind");
}

#[test]
fn many_pods_are_counted_and_the_first_are_named() {
    let mut world = World::old();
    for number in 0..25 {
        world.apply(plain(&format!("{number:02}"), true));
    }
    world.apply(plain("zz", false));
    world.apply(pod("yy", true));
    assert_eq!(world.state.uncounted_pods(), 25);
    world.pass(seconds(30));
    let [(names, 25)] = &world.notices()[..] else {
        panic!("not told");
    };
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "pod-00");
    assert_eq!(&world.state.uncounted_names(&workload()), names);
}

#[test]
fn the_text_names_the_pods_and_the_remedy() {
    let mut world = World::old();
    world.apply(plain("a", true));
    world.pass(seconds(30));
    let text = world.state.notices(world.now)[0].to_string();
    for part in ["Deployment/web", "pod-a", "stillwake.dev/inject: enabled"] {
        assert!(text.contains(part), "{part} is missing from: {text}");
    }
}
