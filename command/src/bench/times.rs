//! What many times of the same work say.

use serde::{Deserialize, Serialize};

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub min: f64,
    pub median: f64,
    pub p90: f64,
}

impl Times {
    /// `None` of no times.
    pub fn of(all_ms: &[f64]) -> Option<Self> {
        let mut sorted = all_ms.to_vec();
        sorted.sort_by(f64::total_cmp);
        // The smallest time that nine of ten do not exceed.
        let p90 = (9 * sorted.len()).div_ceil(10).checked_sub(1)?;
        Some(Self { min: *sorted.first()?, median: median(all_ms)?, p90: sorted[p90] })
    }

    /// Half the width of what was measured, as a share of the median: how far a median may lie off by chance.
    pub fn spread(&self) -> f64 {
        (self.p90 - self.min) / (2.0 * self.median)
    }
}

/// The middle value, or the mean of both middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[sorted.len() / 2 - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics() {
        let rows: &[(&[f64], f64, f64, f64)] = &[
            (&[3.0], 3.0, 3.0, 3.0),
            (&[4.0, 2.0], 2.0, 3.0, 4.0),
            (&[3.0, 1.0, 2.0], 1.0, 2.0, 3.0),
            (&[10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 1.0, 5.5, 9.0),
            (&[11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 1.0, 6.0, 10.0),
        ];
        for &(all_ms, min, median, p90) in rows {
            assert_eq!(Times::of(all_ms), Some(Times { min, median, p90 }), "{all_ms:?}");
        }
        assert_eq!(Times::of(&[]), None);
    }

    #[test]
    fn spread_is_relative() {
        assert_eq!(Times { min: 9.0, median: 10.0, p90: 12.0 }.spread(), 0.15);
    }
}
