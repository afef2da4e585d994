//! Fitting compared with trying everything.

use proptest::{collection::vec, option, prelude::*};

use super::*;

/// The largest amount that is tried.
const MOST: u64 = 12;

fn amount() -> impl Strategy<Value = Amount> {
    (0..MOST).prop_map(thousandths)
}

fn thousandths(number: u64) -> Amount {
    Amount::parse(&format!("{number}m")).unwrap()
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let seldom = || option::weighted(0.4, amount());
    let ratio = option::weighted(0.3, (1_u64..4).prop_map(|ratio| thousandths(ratio * 1000)));
    (seldom(), seldom(), ratio).prop_map(|(least, most, ratio)| Bounds { least, most, ratio })
}

fn ends() -> impl Strategy<Value = Option<(Amount, Amount)>> {
    let some = vec(amount(), 1..3).prop_map(|mut some| {
        some.sort();
        (some[0], some[some.len() - 1])
    });
    option::weighted(0.3, some)
}

fn sum() -> impl Strategy<Value = Sum> {
    let seldom = || option::weighted(0.5, amount());
    (seldom(), seldom(), option::weighted(0.2, amount())).prop_map(|(before, beside, whole)| Sum {
        before,
        beside,
        whole,
    })
}

prop_compose! {
    fn terms()(
        container in bounds(),
        pod in bounds(),
        (request, limit) in (ends(), ends()),
        (requests, limits) in (sum(), sum()),
        requests_at_most in option::weighted(0.2, amount()),
        limit_demanded: bool,
        least_limit in 1..MOST,
        usual_limit in 1..MOST,
    ) -> Terms {
        let defaults = Defaults { request, limit };
        let (least_limit, usual_limit) = (thousandths(least_limit), Some(thousandths(usual_limit)));
        Terms { container, pod, defaults, requests, limits, requests_at_most, limit_demanded, least_limit, usual_limit }
    }
}

fn all() -> impl Iterator<Item = Option<Amount>> + Clone {
    (0..3 * MOST).map(thousandths).map(Some).chain([None])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn what_is_found_holds_and_what_is_not_found_does_not_exist(
        terms in terms(),
        request in amount(),
        limit in option::of(amount()),
    ) {
        // Whoever has a pod refused anyway need not be helped.
        let (requests, limits) = (terms.requests.judged(None), terms.limits.judged(None));
        prop_assume!(terms.pod.hold(requests, limits));
        prop_assume!(terms.pod.ratio.is_none() || terms.requests.before <= terms.requests.beside);
        let request = Some(request);
        match terms.fit(Pair { request, limit }) {
            Some(pair) => prop_assert!(terms.hold_however_filled(pair), "{:?}", pair),
            // A limit that is wanted may change, and does not go.
            None => for request in all().flatten().map(Some) {
                for limit in all().filter(|one| limit.is_none() || one.is_some()) {
                    let pair = Pair { request, limit };
                    prop_assert!(!terms.hold_however_filled(pair), "{:?}", pair);
                }
            }
        }
    }

    #[test]
    fn what_may_stay_stays(terms in terms(), request in amount(), limit in amount()) {
        let wanted = Pair { request: Some(request), limit: Some(limit) };
        if terms.hold_however_filled(wanted) {
            prop_assert_eq!(terms.fit(wanted), Some(wanted));
        }
    }
}

fn fitted(terms: &Terms, request: u64, limit: Option<u64>) -> Option<(u64, Option<u64>)> {
    let pair = terms.fit(Pair {
        request: Some(thousandths(request)),
        limit: limit.map(thousandths),
    })?;
    let number = |amount: Amount| (0..1000).find(|number| thousandths(*number) == amount);
    Some((number(pair.request?)?, pair.limit.and_then(number)))
}

fn usual() -> Terms {
    Terms {
        least_limit: thousandths(10),
        usual_limit: Some(thousandths(200)),
        ..Terms::default()
    }
}

#[test]
fn each_demand_is_met_with_as_little_as_it_takes() {
    let container = |least: Option<u64>, most: Option<u64>, ratio: Option<u64>| Terms {
        container: Bounds {
            least: least.map(thousandths),
            most: most.map(thousandths),
            ratio: ratio.map(|ratio| thousandths(ratio * 1000)),
        },
        ..usual()
    };
    assert_eq!(fitted(&usual(), 5, None), Some((5, None)));
    let least = container(Some(50), None, None);
    assert_eq!(fitted(&least, 5, None), Some((50, None)));
    assert_eq!(fitted(&least, 5, Some(20)), Some((50, Some(50))));
    let most = container(None, Some(100), None);
    assert_eq!(fitted(&most, 150, Some(200)), Some((100, Some(100))));
    let ratio = container(None, None, Some(4));
    assert_eq!(fitted(&ratio, 5, Some(300)), Some((75, Some(300))));
    assert_eq!(fitted(&ratio, 5, None), Some((50, Some(200))));
    assert_eq!(fitted(&container(Some(50), Some(20), None), 5, None), None);
    let too_little = container(None, Some(5), None);
    assert_eq!(
        fitted(&too_little, 5, None),
        None,
        "the sidecar would not work"
    );
    let demanded = Terms {
        limit_demanded: true,
        ..usual()
    };
    assert_eq!(fitted(&demanded, 5, None), Some((5, Some(200))));
    let by_default = Terms {
        defaults: Defaults {
            limit: Some((thousandths(50), thousandths(60))),
            ..Defaults::default()
        },
        ..demanded
    };
    assert_eq!(
        fitted(&by_default, 5, None),
        Some((5, None)),
        "it is filled in"
    );
    assert_eq!(
        fitted(&by_default, 55, None),
        Some((55, Some(55))),
        "the lesser default may come first"
    );
}
