//! The moved target: a change of the spec that makes the HPA look, and is too small to change what it decides.

/// The most that the moved target is of the user's.
const MOST: f64 = 1.001;

/// Returns `target` moved by the least that KEDA keeps, which is three decimals (`quantityFromFloat64` in its
/// `pkg/scalers/scaler.go`). None where that is more than a thousandth of the target, or less than its precision.
///
/// Upwards, because `ceil(80 / 10.001)` is still 8 and `ceil(80 / 9.999)` is 9.
pub(crate) fn moved(target: f64) -> Option<f64> {
    let moved = ((target * 1_000.0).round() + 1.0) / 1_000.0;
    // 1 × 1.001 and 1.001 need not be the same number.
    let most = target * MOST + f64::EPSILON;
    (target < moved && moved <= most && moved.is_finite()).then_some(moved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What KEDA makes of a target.
    fn kept(target: f64) -> String {
        format!("{target:.3}")
    }

    #[test]
    fn a_target_is_moved_by_a_thousandth_of_one() {
        for (target, expected) in [(1.0, "1.001"), (20.0, "20.001"), (2.500_4, "2.501")] {
            assert_eq!(kept(moved(target).unwrap()), expected);
        }
        for target in [0.001, 0.5, 0.999, 1e13, f64::MAX] {
            assert_eq!(moved(target), None, "{target}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keda_sees_a_moved_target_and_it_is_never_off_by_more_than_a_thousandth(
            target in prop_oneof![0.001..3.0, 1.0..10_000.0, 1.0..1e12]
        ) {
            if let Some(moved) = moved(target) {
                prop_assert_ne!(kept(moved), kept(target));
                prop_assert!((moved - target).abs() <= target * 0.001 + 1e-12);
            }
            prop_assert!(moved(target).is_some() || target < 2.0);
        }

        #[test]
        fn a_load_that_fills_its_replicas_wants_as_many_by_the_moved_target(
            target in 1..1_000_u32, replicas in 1..1_000_u32
        ) {
            let target = f64::from(target);
            let load = target * f64::from(replicas);
            let wanted = (load / moved(target).unwrap()).ceil();
            prop_assert!((wanted - f64::from(replicas)).abs() < 0.5);
        }
    }
}
