//! Finds what the sidecar may take of one resource. Plain arithmetic; where the terms come from is in `resources`.

use super::{
    bounds::{Bounds, Defaults},
    sum::Sum,
};
use crate::quantity::Amount;

/// A request and a limit; `None` is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) request: Option<Amount>,
    pub(super) limit: Option<Amount>,
}

/// On which terms the API server takes the pod, and the sidecar works.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// Bounds on each container.
    pub(super) container: Bounds,
    /// Bounds on the pod.
    pub(super) pod: Bounds,
    /// What a container gets that says nothing.
    pub(super) defaults: Defaults,
    /// What the pod requests.
    pub(super) requests: Sum,
    /// What the pod is limited to.
    pub(super) limits: Sum,
    /// What the requests of the containers must not exceed in all.
    pub(super) requests_at_most: Option<Amount>,
    /// Whether each container has to have a limit.
    pub(super) limit_demanded: bool,
    /// The least limit with which the sidecar works.
    pub(super) least_limit: Amount,
    /// The limit where there has to be one and nobody says which; `None` where the sidecar cannot have one of its own.
    pub(super) usual_limit: Option<Amount>,
}

impl Terms {
    /// Returns a pair on these terms, as near to `wanted` as they allow; `None` if there is none.
    ///
    /// It may overlook one in a pod whose ratio is bounded and whose requests are mostly those of init containers before
    /// the sidecar.
    ///
    /// A limit that is wanted is kept before a request: less of a limit slows all requests of the app.
    pub(super) fn fit(&self, wanted: Pair) -> Option<Pair> {
        let demanded = self.limit_demanded && self.defaults.limit.is_none();
        let wanted = Pair {
            limit: wanted.limit.or(self.usual_limit.filter(|_| demanded)),
            ..wanted
        };
        if self.hold_however_filled(wanted) {
            return Some(wanted);
        }
        let fitted = self.nearest(wanted);
        // A default limit that can stay needs no words.
        let request_alone = Pair {
            limit: wanted.limit,
            ..fitted
        };
        [request_alone, fitted]
            .into_iter()
            .find(|pair| self.hold_however_filled(*pair))
    }

    /// Whether the API server takes the pod, whichever defaults come first. The terms are linear, so that they hold
    /// between two defaults if they hold for both.
    fn hold_however_filled(&self, pair: Pair) -> bool {
        let filled = |said: Option<Amount>, defaults: Option<(Amount, Amount)>| match said {
            None => [defaults.map(|ends| ends.0), defaults.map(|ends| ends.1)],
            said => [said, said],
        };
        let limits = filled(pair.limit, self.defaults.limit);
        let mut requests = filled(pair.request, self.defaults.request).into_iter();
        requests.all(|request| {
            let mut limits = limits.into_iter();
            limits.all(|limit| self.hold(request.or(limit), limit))
        })
    }

    fn hold(&self, request: Option<Amount>, limit: Option<Amount>) -> bool {
        let in_order = match (request, limit) {
            (Some(request), Some(limit)) => request <= limit && limit >= self.least_limit,
            _ => true,
        };
        in_order
            && (limit.is_some() || !self.limit_demanded)
            && self.container.hold(request, limit)
            && self
                .pod
                .hold(self.requests.judged(request), self.limits.judged(limit))
            && self
                .requests_at_most
                .is_none_or(|most| self.requests.with(request).unwrap_or_default() <= most)
    }

    /// Moves what is wanted into the bounds; they may turn out to leave no room.
    fn nearest(&self, wanted: Pair) -> Pair {
        let has_default = self.defaults.limit.is_some();
        let has_to = has_default || self.container.ratio.is_some() || self.container.most.is_some();
        let default = self.defaults.limit.map(|(least, _)| least);
        // The default of a LimitRange is for apps; the sidecar needs no more than its own.
        let usual = match (default, self.usual_limit) {
            (Some(default), Some(usual)) => Some(default.min(usual)),
            (default, usual) => default.or(usual),
        };
        let limit = wanted.limit.or(usual.filter(|_| has_to));
        let request = wanted.request.or(self.defaults.request.map(|ends| ends.0));
        let Some(mut request) = request.or(limit) else {
            return wanted;
        };

        let most_request = self.most_request();
        request = request.max(self.least(&self.requests)).min(most_request);
        let Some(mut limit) = limit else {
            return Pair {
                request: Some(request),
                limit: None,
            };
        };
        let most_limit = room(&self.limits, self.container.most, self.pod.most);
        limit = limit
            .max(self.least(&self.limits))
            .max(self.least_limit)
            .max(request)
            .min(most_limit);
        request = request.min(limit);
        // A higher request allows for the limit; where there is no room for it the limit comes down.
        request = self
            .least_request(limit)
            .max(request)
            .min(most_request)
            .min(limit);
        limit = limit.min(self.greatest_limit(request));
        Pair {
            request: Some(request.min(limit)),
            limit: Some(limit),
        }
    }

    fn most_request(&self) -> Amount {
        let in_bounds = room(&self.requests, self.container.most, self.pod.most);
        let in_whole = self.requests_at_most.map(|most| {
            Sum {
                whole: None,
                ..self.requests
            }
            .leaves(most)
        });
        in_whole.map_or(in_bounds, |most| most.min(in_bounds))
    }

    /// Returns the least that keeps to the minimums.
    fn least(&self, sum: &Sum) -> Amount {
        let own = self.container.least.unwrap_or_default();
        let lacking = self.pod.least.map(|least| sum.lacks(least));
        own.max(lacking.unwrap_or_default())
    }

    /// Returns the least request that allows for a limit.
    fn least_request(&self, limit: Amount) -> Amount {
        let own = self.container.ratio.map(|ratio| limit.divided(ratio));
        let pod = self.pod.ratio.map(|ratio| {
            let limits = self.limits.judged(Some(limit)).unwrap_or_default();
            self.requests.lacks(limits.divided(ratio))
        });
        own.max(pod).unwrap_or_default()
    }

    /// Returns the greatest limit that a request allows for.
    fn greatest_limit(&self, request: Amount) -> Amount {
        let own = self.container.ratio.map(|ratio| request.times(ratio));
        let pod = self.pod.ratio.map(|ratio| {
            let requests = self.requests.judged(Some(request)).unwrap_or_default();
            self.limits.leaves(requests.times(ratio))
        });
        own.into_iter().chain(pod).min().unwrap_or(Amount::MOST)
    }
}

/// Returns how much more fits into a maximum of the container and one of the pod.
fn room(sum: &Sum, container: Option<Amount>, pod: Option<Amount>) -> Amount {
    let pod = pod.map(|most| sum.leaves(most));
    let most = container.into_iter().chain(pod).min();
    most.unwrap_or(Amount::MOST)
}

#[cfg(test)]
mod tests;
