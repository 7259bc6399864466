//! Durations and sizes as people write them: `"1.5s"` is refused, `"1500ms"` is not.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// A whole number and a unit: `4ms`, `2s`, `5m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let scale = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(scale).map(Duration::from_millis)
}

/// A whole number and a unit: `512B`, `256KiB`, `64MiB`, `1GiB`. The answer is in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let scale = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(scale)
}

/// The shortest text that [`parse_duration`] reads as `duration`, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let largest = DURATION_UNITS.iter().rev().find(|(_, scale)| ms >= *scale && ms.is_multiple_of(*scale));
    match largest {
        Some((unit, scale)) => format!("{}{unit}", ms / scale),
        None => format!("{ms}ms"),
    }
}

/// The shortest text that [`parse_size`] reads as `bytes`.
pub fn format_size(bytes: u64) -> String {
    let largest = SIZE_UNITS[..3].iter().rev().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    match largest {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration")))
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    parse_size(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a size")))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_whole_number() {
        assert_eq!(parse_duration("4ms"), Some(Duration::from_millis(4)));
        assert_eq!(parse_duration("2 s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "2", "s", "1.5s", "-1s", "2 seconds", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary_units() {
        assert_eq!(parse_size("256KiB"), Some(262_144));
        assert_eq!(parse_size("0B"), Some(0));
        for wrong in ["256", "256KB", "256k", "KiB", "1.5MiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_formatted_reads_back_the_same() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 30] {
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }
        assert_eq!(format_duration(Duration::from_secs(120)), "2m");
        assert_eq!(format_size(64 << 20), "64MiB");
    }
}
