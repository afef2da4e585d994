//! Medians with their spread, and measurements in an order that treats all subjects alike.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// How often the bootstrap draws. The interval moves by less than the report shows with more.
const DRAWS: usize = 2_000;

/// The same numbers are to give the same interval.
const SEED: u64 = 8;

/// A median and where it lies with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Summary {
    /// Returns the summary of something that is the same whenever it is looked at.
    pub const fn exact(value: f64) -> Self {
        Self {
            median: value,
            low: value,
            high: value,
        }
    }

    /// Returns the summary of numbers that were measured alike.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn of(values: &[f64]) -> anyhow::Result<Self> {
        let (low, high) = bootstrap(values)?;
        Ok(Self {
            median: median(values)?,
            low,
            high,
        })
    }

    /// Whether there is an interval at all.
    pub fn is_exact(&self) -> bool {
        self.low.total_cmp(&self.high).is_eq()
    }
}

/// Returns the middle of `values`.
///
/// # Errors
///
/// When there are none.
pub fn median(values: &[f64]) -> anyhow::Result<f64> {
    percentile(values, 0.5)
}

/// Returns the value below which the `share` (0 to 1) of all lies, interpolated between neighbours.
///
/// # Errors
///
/// When there are none.
pub fn percentile(values: &[f64], share: f64) -> anyhow::Result<f64> {
    ensure!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor(), place.ceil());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in the list"
    )]
    let (below, above) = (sorted[below as usize], sorted[above as usize]);
    Ok(below + (above - below) * place.fract())
}

/// The interval that the median of numbers like these lies in with a confidence of 95 %.
fn bootstrap(values: &[f64]) -> anyhow::Result<(f64, f64)> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut medians = Vec::with_capacity(DRAWS);
    let mut drawn = Vec::with_capacity(values.len());
    for _ in 0..DRAWS {
        drawn.clear();
        drawn.extend(
            values
                .iter()
                .map(|_| values[random.random_range(0..values.len())]),
        );
        medians.push(median(&drawn)?);
    }
    Ok((percentile(&medians, 0.025)?, percentile(&medians, 0.975)?))
}

/// What was measured of several subjects: by subject and measure one number for each block.
#[derive(Clone, Debug, Default)]
pub struct Blocks(BTreeMap<(String, &'static str), Vec<f64>>);

impl Blocks {
    /// Measures all `subjects` in so many blocks. In each, one after the other and then the same way back, so that none
    /// gains by its place when the machine becomes slower or faster; a block's number is the mean of both.
    ///
    /// `measure` returns numbers by their measures.
    ///
    /// # Errors
    ///
    /// As `measure`, with the subject's name.
    pub async fn measure<S: AsRef<str>>(
        subjects: &[S],
        blocks: usize,
        mut measure: impl AsyncFnMut(&S) -> anyhow::Result<Vec<(&'static str, f64)>>,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for _ in 0..blocks {
            let mut block: BTreeMap<(String, &'static str), Vec<f64>> = BTreeMap::new();
            for subject in subjects.iter().chain(subjects.iter().rev()) {
                let name = subject.as_ref();
                let numbers = measure(subject).await.with_context(|| name.to_owned())?;
                for (measure, number) in numbers {
                    let key = (name.to_owned(), measure);
                    block.entry(key).or_default().push(number);
                }
            }
            for (key, numbers) in block {
                let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
                all.0.entry(key).or_default().push(mean);
            }
        }
        Ok(all)
    }

    /// Returns the numbers of a subject, block by block.
    ///
    /// # Errors
    ///
    /// When it was not measured.
    pub fn numbers(&self, subject: &str, measure: &'static str) -> anyhow::Result<&[f64]> {
        let numbers = self.0.get(&(subject.to_owned(), measure));
        Ok(numbers.with_context(|| format!("{measure} of {subject} was not measured"))?)
    }

    /// Returns what the blocks say of a subject.
    ///
    /// # Errors
    ///
    /// When it was not measured.
    pub fn summary(&self, subject: &str, measure: &'static str) -> anyhow::Result<Summary> {
        Summary::of(self.numbers(subject, measure)?)
    }

    /// Returns what the subject's number is over the control's in the same block.
    ///
    /// # Errors
    ///
    /// When one of both was not measured.
    pub fn ratio(
        &self,
        subject: &str,
        control: &str,
        measure: &'static str,
    ) -> anyhow::Result<Summary> {
        self.pairwise(subject, control, measure, |number, control| {
            number / control
        })
    }

    /// Returns what the subject's number is above the control's in the same block.
    ///
    /// # Errors
    ///
    /// When one of both was not measured.
    pub fn difference(
        &self,
        subject: &str,
        control: &str,
        measure: &'static str,
    ) -> anyhow::Result<Summary> {
        self.pairwise(subject, control, measure, |number, control| {
            number - control
        })
    }

    fn pairwise(
        &self,
        subject: &str,
        control: &str,
        measure: &'static str,
        compare: fn(f64, f64) -> f64,
    ) -> anyhow::Result<Summary> {
        let numbers = self.numbers(subject, measure)?;
        let pairs = numbers.iter().zip(self.numbers(control, measure)?);
        let compared: Vec<f64> = pairs
            .map(|(number, control)| compare(*number, *control))
            .collect();
        Summary::of(&compared)
    }

    /// Returns by which part of its median a subject's number moved over the blocks.
    ///
    /// # Errors
    ///
    /// When it was not measured.
    pub fn movement(&self, subject: &str, measure: &'static str) -> anyhow::Result<f64> {
        let numbers = self.numbers(subject, measure)?;
        let (least, most) = (percentile(numbers, 0.0)?, percentile(numbers, 1.0)?);
        Ok((most - least) / median(numbers)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_between_its_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values).unwrap().to_string(), "2.5");
        assert_eq!(percentile(&values, 1.0).unwrap().to_string(), "4");
        assert!(median(&[]).is_err());
    }

    #[test]
    fn the_interval_holds_the_median_and_is_the_same_each_time() {
        let values = [10.0, 11.0, 9.0, 10.5, 30.0];
        let summary = Summary::of(&values).unwrap();
        assert!(summary.low <= summary.median && summary.median <= summary.high);
        assert!(!summary.is_exact());
        assert_eq!(summary, Summary::of(&values).unwrap());
    }

    #[tokio::test]
    async fn a_machine_that_slows_down_steadily_changes_no_ratio() {
        let mut clock = 0.0;
        let blocks = Blocks::measure(&["a", "b"], 5, async |_| {
            clock += 1.0;
            Ok(vec![("time", clock)])
        })
        .await
        .unwrap();
        assert_eq!(blocks.ratio("a", "b", "time").unwrap(), Summary::exact(1.0));
        assert_eq!(
            blocks.numbers("a", "time").unwrap(),
            [2.5, 6.5, 10.5, 14.5, 18.5]
        );
        assert!(blocks.movement("a", "time").unwrap() > 1.0);
        assert!(blocks.summary("c", "time").is_err());
    }
}
