//! Kubernetes' quantities, as far as it takes to keep a pod valid: whether one is well formed, and how two compare.
//!
//! Not for arithmetic: values become floating point.

/// What a suffix multiplies by.
const SUFFIXES: [(&str, f64); 14] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
];

/// Returns the size of a quantity that is written as a decimal number with or without a suffix; `None` for anything
/// else. Exponents and signs, which Kubernetes knows too, are not taken.
pub(crate) fn size(text: &str) -> Option<f64> {
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    let plain = number.starts_with(|character: char| character.is_ascii_digit())
        && number
            .chars()
            .all(|character| character.is_ascii_digit() || character == '.');
    plain
        .then(|| number.parse::<f64>().ok())
        .flatten()
        .map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_across_their_suffixes() {
        assert!(size("5m") < size("0.1"));
        assert!(size("8Mi") > size("8M"));
        assert!(size("1Gi") > size("1000Mi"));
        assert_eq!(size("1k"), size("1000"));
        assert_eq!(size("1Ki"), size("1024"));
    }

    #[test]
    fn what_is_no_quantity_has_no_size() {
        for wrong in [
            "", "m", "-1", "+1", "1.2.3", "5 m", "1e3", "8MB", ".5", "five", "inf", "NaN",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
