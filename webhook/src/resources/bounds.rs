//! What the `LimitRange`s of a namespace say of one resource. All of them hold at once.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::quantity::Amount;

type Quantities = Option<BTreeMap<String, Quantity>>;

/// Bounds on a container or on a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The least request and limit.
    pub(super) least: Option<Amount>,
    /// The greatest request and limit.
    pub(super) most: Option<Amount>,
    /// The most that a limit may be of its request.
    pub(super) ratio: Option<Amount>,
}

/// What a container gets that says nothing. Which of several `LimitRange`s comes first is left to chance, so both ends
/// of what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) request: Option<(Amount, Amount)>,
    pub(super) limit: Option<(Amount, Amount)>,
}

/// Returns the resources that a `LimitRange` bounds in containers and pods.
pub(super) fn resources(range: &LimitRange) -> impl Iterator<Item = &str> {
    let items = range.spec.iter().flat_map(|spec| &spec.limits);
    let of_pods = items.filter(|item| matches!(item.type_.as_str(), "Container" | "Pod"));
    let said = of_pods.flat_map(|item| {
        let LimitRangeItem {
            default,
            default_request,
            max,
            max_limit_request_ratio,
            min,
            type_: _,
        } = item;
        [default, default_request, max, max_limit_request_ratio, min]
    });
    said.flatten().flat_map(BTreeMap::keys).map(String::as_str)
}

fn items<'a>(
    ranges: &'a [Arc<LimitRange>],
    kind: &'a str,
) -> impl Iterator<Item = &'a LimitRangeItem> {
    let items = ranges
        .iter()
        .flat_map(|range| &range.spec)
        .flat_map(|spec| &spec.limits);
    items.filter(move |item| item.type_ == kind)
}

pub(super) fn amount(quantities: &Quantities, resource: &str) -> Option<Amount> {
    Amount::parse(&quantities.as_ref()?.get(resource)?.0)
}

impl Bounds {
    pub(super) fn of(ranges: &[Arc<LimitRange>], kind: &str, resource: &str) -> Self {
        let said = |of: fn(&LimitRangeItem) -> &Quantities| {
            items(ranges, kind).filter_map(move |item| amount(of(item), resource))
        };
        Self {
            least: said(|item| &item.min).max(),
            most: said(|item| &item.max).min(),
            ratio: said(|item| &item.max_limit_request_ratio).min(),
        }
    }

    /// Whether the API server takes this.
    pub(super) fn hold(&self, request: Option<Amount>, limit: Option<Amount>) -> bool {
        let least = self.least.is_none_or(|least| {
            request.is_some_and(|request| request >= least)
                && limit.is_none_or(|limit| limit >= least)
        });
        let most = self.most.is_none_or(|most| {
            limit.is_some_and(|limit| limit <= most)
                && request.is_none_or(|request| request <= most)
        });
        let ratio = self.ratio.is_none_or(|ratio| {
            let (Some(request), Some(limit)) = (request, limit) else {
                return false;
            };
            request > Amount::ZERO && limit > Amount::ZERO && limit.is_within(ratio, request)
        });
        least && most && ratio
    }
}

impl Defaults {
    /// With what the API server adds when a `LimitRange` is written: a maximum is a default too, and a default limit or
    /// a minimum is a default request.
    pub(super) fn of(ranges: &[Arc<LimitRange>], resource: &str) -> Self {
        let limit = |item: &LimitRangeItem| {
            amount(&item.default, resource).or_else(|| amount(&item.max, resource))
        };
        let request = |item: &LimitRangeItem| {
            amount(&item.default_request, resource)
                .or_else(|| limit(item))
                .or_else(|| amount(&item.min, resource))
        };
        let ends = |of: &dyn Fn(&LimitRangeItem) -> Option<Amount>| {
            let amounts: Vec<_> = items(ranges, "Container").filter_map(of).collect();
            Some((*amounts.iter().min()?, *amounts.iter().max()?))
        };
        Self {
            request: ends(&request),
            limit: ends(&limit),
        }
    }
}
