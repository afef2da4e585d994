//! `/metrics` of a run: the values of the `OpenMetrics` text, by name and labels.
//!
//! Reads what our own encoder writes; not a parser for anybody else's pages.

use std::fmt;

use anyhow::{Context, ensure};

/// One reading of the page.
#[derive(Clone, Debug)]
pub struct Metrics {
    page: String,
}

impl Metrics {
    pub(crate) fn new(page: String) -> Self {
        Self { page }
    }

    /// Sum of the samples that have this name and all these labels.
    ///
    /// # Errors
    ///
    /// When there is none: a metric that is missing is not one that is 0.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        let mut found = Vec::new();
        for line in self.page.lines().filter(|line| !line.starts_with('#')) {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            let (sample_labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest
                    .rsplit_once("} ")
                    .context("a label set without an end")?,
                None => match rest.strip_prefix(' ') {
                    Some(value) => ("", value),
                    // Another metric, whose name begins with this one's.
                    None => continue,
                },
            };
            let has = |(key, value): &(&str, &str)| {
                sample_labels
                    .split(',')
                    .any(|pair| pair == format!("{key}=\"{value}\""))
            };
            if labels.iter().all(has) {
                let number = value.split(' ').next().unwrap_or_default();
                let number = number.parse::<f64>();
                found.push(number.with_context(|| format!("no number in {line:?}"))?);
            }
        }
        ensure!(!found.is_empty(), "/metrics has no {name} with {labels:?}");
        Ok(found.iter().sum())
    }

    /// As [`Self::sum`], of samples that count something.
    ///
    /// # Errors
    ///
    /// When there is none, or the sum is not a whole number from 0 upwards.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<u64> {
        let sum = self.sum(name, labels)?;
        // Display gives whole numbers without a point.
        let count = sum.to_string().parse();
        count.with_context(|| format!("{name} with {labels:?} is {sum}, which counts nothing"))
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE held gauge
held 3
held_bytes 700
average 0.5
requests_total{outcome=\"forwarded\",code=\"200\"} 5
requests_total{outcome=\"overflow\",code=\"503\"} 2
# EOF
";

    #[test]
    fn samples_are_found_by_name_and_labels_and_added_up() {
        let metrics = Metrics::new(PAGE.to_owned());
        let sum = |name, labels: &[_]| metrics.sum(name, labels).ok();
        assert_eq!(sum("held", &[]), Some(3.0));
        assert_eq!(sum("requests_total", &[]), Some(7.0));
        assert_eq!(sum("requests_total", &[("outcome", "overflow")]), Some(2.0));
        assert_eq!(sum("requests_total", &[("outcome", "deadline")]), None);
        assert_eq!(sum("hel", &[]), None);
        assert_eq!(metrics.count("held_bytes", &[]).unwrap(), 700);
        assert!(metrics.count("average", &[]).is_err());
    }
}
