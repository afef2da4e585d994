//! Kubernetes' quantities, as far as it takes to keep a pod valid: reading, comparing, adding and writing them.
//!
//! Exact to a thousandth, which is what the API server rounds a pod's resources up to.

use std::fmt;

/// A quantity in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(u128);

/// What a suffix multiplies by, and what it divides by.
const SUFFIXES: [(&str, u128, u128); 16] = [
    ("", 1, 1),
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
];

impl Amount {
    pub(crate) const ZERO: Self = Self(0);
    /// The largest that Kubernetes takes.
    pub(crate) const MOST: Self = Self(i64::MAX as u128 * 1000);

    /// Reads a quantity; `None` for what is none, has a sign, or is beyond what Kubernetes takes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end = text.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: u128 = (!whole.is_empty() && !fraction.contains('.'))
            .then(|| format!("{whole}{fraction}").parse().ok())
            .flatten()?;
        let (times, by) = factor(suffix)?;
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let thousandths = digits.checked_mul(times)?.checked_mul(1000)?;
        let amount = thousandths.div_ceil(divisor.checked_mul(by)?);
        Some(Self(amount)).filter(|amount| *amount <= Self::MOST)
    }

    pub(crate) fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether this is at most `ratio` times `other`, by the floating point in which the API server finds that out.
    #[expect(clippy::cast_precision_loss, reason = "it is lost there too")]
    pub(crate) fn is_within(self, ratio: Self, other: Self) -> bool {
        self.0 as f64 / other.0 as f64 * 1000.0 <= ratio.0 as f64
    }

    /// Returns the least amount of which this is at most `ratio` times.
    pub(crate) fn divided(self, ratio: Self) -> Self {
        let exact = Self(self.0.saturating_mul(1000).div_ceil(ratio.0.max(1)));
        // Where rounding makes it a little more than the ratio.
        if self.is_within(ratio, exact) {
            exact
        } else {
            Self(exact.0 + 1)
        }
    }

    /// Returns the greatest amount that is at most `ratio` times this.
    pub(crate) fn times(self, ratio: Self) -> Self {
        let exact = Self(self.0.saturating_mul(ratio.0) / 1000).min(Self::MOST);
        if exact.is_within(ratio, self) {
            exact
        } else {
            Self(exact.0.saturating_sub(1))
        }
    }
}

/// Returns what a suffix multiplies by and divides by. An exponent is one too.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let known = SUFFIXES.iter().find(|(known, ..)| *known == suffix);
    if let Some((_, times, by)) = known {
        return Some((*times, *by));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

/// As Kubernetes writes it, in the largest unit that leaves nothing over.
impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_multiple_of(1000) {
            return write!(formatter, "{}m", self.0);
        }
        let whole = self.0 / 1000;
        let mut units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)].into_iter();
        match units.find(|(_, unit)| whole >= *unit && whole.is_multiple_of(*unit)) {
            Some((suffix, unit)) => write!(formatter, "{}{suffix}", whole / unit),
            None => write!(formatter, "{whole}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<Amount> {
        Amount::parse(text)
    }

    #[test]
    fn quantities_compare_across_their_suffixes() {
        assert!(size("5m") < size("0.1"));
        assert!(size("8Mi") > size("8M"));
        assert!(size("1Gi") > size("1000Mi"));
        assert_eq!(size("1k"), size("1000"));
        assert_eq!(size("1Ki"), size("1024"));
        assert_eq!(size("1e3"), size("1k"));
        assert_eq!(size("5e-3"), size("5m"));
        assert_eq!(size("2E"), size("2e18"));
        assert_eq!(size("1.5Gi"), size("1536Mi"));
        assert_eq!(
            size("1001n"),
            size("1m"),
            "thousandths are as fine as it gets"
        );
    }

    #[test]
    fn what_is_no_quantity_has_no_size() {
        for wrong in [
            "", "m", "-1", "+1", "1.2.3", "5 m", "8MB", ".5", "five", "inf", "NaN", "1e", "1e1000",
            "8Ei8", "9Ei",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "0", "5m", "1", "1001m", "64Mi", "1Gi", "1536Mi", "3Ki", "1000", "1025",
        ] {
            let amount = size(text).unwrap();
            assert_eq!(amount.to_string(), text);
        }
        assert_eq!(size("0.2").unwrap().to_string(), "200m");
    }
}
