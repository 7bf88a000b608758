//! How long unlikes are remembered, as it is given and shown: a whole number with its unit.

use std::time::Duration;

use plaudit::MAX_TIME_MS;

use crate::human::grouped;

/// The units, the longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `7d`, `12h`, `30m`, `10s` or `500ms`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let millis = unit.and_then(|(_, millis)| number.parse::<u64>().ok()?.checked_mul(*millis));
    let millis = millis.filter(|millis| *millis <= MAX_TIME_MS).ok_or_else(|| {
        let most = grouped(MAX_TIME_MS / UNITS[0].1);
        format!("a time such as 7d, 12h, 30m, 10s or 500ms is expected, at most {most} days")
    })?;
    Ok(Duration::from_millis(millis))
}

/// In the longest unit of which it is a whole number.
pub(crate) fn shown(horizon: Duration) -> String {
    let millis = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
    let whole = UNITS.iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    whole.map_or_else(String::new, |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_read_as_it_is_shown() {
        for text in ["7d", "12h", "90m", "1s", "1500ms", "1628906d"] {
            assert_eq!(shown(parse(text).unwrap()), text);
        }
        assert_eq!((parse("0s"), parse("86400s").map(shown)), (Ok(Duration::ZERO), Ok("1d".to_owned())));
        for text in ["", "7", "d", "-1d", "1.5h", "7 d", "1w", "1628907d", "99999999999999999999ms"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
