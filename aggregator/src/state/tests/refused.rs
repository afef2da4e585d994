//! Triggers whose metadata make no sense, and when that is told.

use super::*;
use crate::{notice::Notice, trigger::TriggerError};

fn mistake(key: &str) -> TriggerError {
    TriggerError::Key {
        key: key.to_owned(),
        value: "5".to_owned(),
    }
}

impl World {
    fn reads(&mut self, error: Option<&TriggerError>) -> Vec<String> {
        self.state.trigger_read(&key(), error);
        let notices = self.state.notices(self.now).into_iter();
        notices
            .map(|notice| match notice {
                Notice::Refused { why, .. } => why,
                other => panic!("{other}"),
            })
            .collect()
    }
}

#[test]
fn a_mistake_is_told_once_until_it_is_another_one_or_mended() {
    let mut world = World::old();
    assert!(world.reads(None).is_empty());
    let told = world.reads(Some(&mistake("targetConcurency")));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("'targetConcurency'"), "{told:?}");
    assert!(world.reads(Some(&mistake("targetConcurency"))).is_empty());
    assert_eq!(world.reads(Some(&mistake("windows"))).len(), 1);
    assert!(world.reads(None).is_empty());
    assert_eq!(world.reads(Some(&mistake("windows"))).len(), 1);
}

#[test]
fn nothing_is_kept_of_a_scaled_object_that_does_not_exist() {
    let mut world = World::old();
    world.reads(Some(&mistake("windows")));
    world.apply(MembershipEvent::ScaledObjectGone {
        namespace: key().namespace,
        name: key().name,
    });
    assert!(world.reads(Some(&mistake("windows"))).is_empty());
    assert!(world.state.refused.is_empty());
}
