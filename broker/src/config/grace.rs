//! How long past its keep alive a silent client is borne with.

use std::{str::FromStr, time::Duration};

use serde::Deserialize;

use super::units::parse_duration;

/// `"1.5x"` is MQTT's own rule [MQTT-3.1.2-22]; `"+5s"` is what some device clouds do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum KeepAliveGrace {
    /// In thousandths: 1,500 for `"1.5x"`.
    Factor(u32),
    Plus(Duration),
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a factor from 1x to 10x as \"1.5x\" nor an addition as \"+5s\"")]
pub struct NotAGrace(String);

impl KeepAliveGrace {
    /// How long a client with this keep alive may be silent.
    pub fn deadline(self, keep_alive: Duration) -> Duration {
        match self {
            KeepAliveGrace::Factor(thousandths) => keep_alive.saturating_mul(thousandths) / 1_000,
            KeepAliveGrace::Plus(addition) => keep_alive.saturating_add(addition),
        }
    }
}

impl FromStr for KeepAliveGrace {
    type Err = NotAGrace;

    fn from_str(text: &str) -> Result<Self, NotAGrace> {
        let refused = || NotAGrace(text.to_owned());
        if let Some(addition) = text.strip_prefix('+') {
            return parse_duration(addition).map(KeepAliveGrace::Plus).ok_or_else(refused);
        }
        let factor: f64 = text.strip_suffix('x').and_then(|f| f.parse().ok()).ok_or_else(refused)?;
        if !(1.0..=10.0).contains(&factor) {
            return Err(refused());
        }
        // In range by the check above, so the cast loses nothing but what is below a thousandth.
        Ok(KeepAliveGrace::Factor((factor * 1_000.0).round() as u32))
    }
}

impl TryFrom<String> for KeepAliveGrace {
    type Error = NotAGrace;

    fn try_from(text: String) -> Result<Self, NotAGrace> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_multiplies_and_an_addition_adds() {
        let minute = Duration::from_secs(60);
        let factor: KeepAliveGrace = "1.5x".parse().unwrap();
        assert_eq!(factor.deadline(minute), Duration::from_secs(90));
        let plus: KeepAliveGrace = "+5s".parse().unwrap();
        assert_eq!(plus.deadline(minute), Duration::from_secs(65));
    }

    #[test]
    fn a_grace_below_the_keep_alive_itself_is_refused() {
        for wrong in ["0.9x", "11x", "NaNx", "1.5", "x", "-5s", "+5", ""] {
            assert!(wrong.parse::<KeepAliveGrace>().is_err(), "{wrong}");
        }
    }
}
