//! The flag `--rate` of `dlq redrive`: limits how often commands are started.

use std::time::Duration;

/// The largest number of items that are started per unit of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// The interval between two items.
    pub(crate) every: Duration,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a rate as `10/s`, `30/m` or `100/h`".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let unit = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let every = Duration::from_secs(unit).checked_div(count).ok_or_else(wrong)?;
        Ok(Self { every })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_rate() {
        for (text, millis) in [("10/s", 100), ("30/m", 2000), ("3600 / h", 1000)] {
            assert_eq!(
                text.parse(),
                Ok(Rate {
                    every: Duration::from_millis(millis)
                })
            );
        }
        for text in ["", "10", "0/s", "-1/s", "1.5/s", "1/d", "/s", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
