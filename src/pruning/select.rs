//! Which tokens are picked: the k largest scores, or those above a threshold; ties, and tokens that always stay.
//!
//! Sums of received attention are exact, in fixed point: real sentences have tokens whose means differ by less than one ulp.

/// Units of a sum of received attention, which is exact.
pub const FIXED_POINT: u64 = 1 << 40;

/// How a layer picks those of its tokens that go on, from the attention that each receives from the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// The k tokens with the largest mean over the rows; k of every layer and sample stands in the index buffer.
    Largest,
    /// The tokens whose sum, divided by the sample's original number of tokens, is greater than this.
    Above(f32),
}

impl Selection {
    /// What a token's sum is divided by.
    pub fn divisor(self, num_rows: usize, num_tokens: usize) -> usize {
        match self {
            Self::Largest => num_rows,
            Self::Above(_) => num_tokens,
        }
    }
}

/// Above every score: means of probabilities are at most 1, but for the rounding of a few f32. 4095 times this is less than 4096, and
/// fits the words of a shader.
const ABOVE_ALL: f32 = 1.0 + 1.0 / 4096.0;

/// A threshold in fixed point, rounded down: a sum of T tokens is above it if it exceeds T times this.
pub fn fixed_point(threshold: f32) -> u64 {
    (f64::from(threshold.min(ABOVE_ALL)) * FIXED_POINT as f64) as u64
}

/// Of a layer's tokens, at sorted `positions`: which go on, and their scores.
///
/// Row and column i of `map`, `[≥ positions.len(), num_tokens]`, stand for `positions[i]`. The first `num_anchors` positions always go on.
pub fn choose(
    selection: Selection,
    map: &[f32],
    num_tokens: usize,
    positions: &[u32],
    k: usize,
    num_anchors: usize,
) -> (Vec<bool>, Vec<f32>) {
    let num_rows = positions.len();
    let mut received = vec![0u64; num_rows];
    for row in map.chunks(num_tokens.max(1)).take(num_rows) {
        for (sum, &a) in received.iter_mut().zip(row) {
            *sum += (f64::from(a) * FIXED_POINT as f64) as u64;
        }
    }
    let mut goes_on = match selection {
        Selection::Largest => largest(&received, k),
        Selection::Above(threshold) => {
            let least = num_tokens as u64 * fixed_point(threshold);
            received.iter().map(|&sum| sum > least).collect()
        }
    };
    for (goes_on, &position) in goes_on.iter_mut().zip(positions) {
        *goes_on |= (position as usize) < num_anchors;
    }
    let divisor = selection.divisor(num_rows, num_tokens) as f64;
    (goes_on, received.into_iter().map(|sum| (sum as f64 / FIXED_POINT as f64 / divisor) as f32).collect())
}

/// Which of the values are the k largest; of equal ones, those with the lower index.
pub fn largest<T: PartialOrd>(values: &[T], k: usize) -> Vec<bool> {
    // What is no number comes first: the scores of an overflow become an error, and until then any order will do.
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    let descending = |i: &usize, j: &usize| {
        let (one, other) = (&values[*i], &values[*j]);
        other.partial_cmp(one).unwrap_or_else(|| is_nan(other).cmp(&is_nan(one))).then(i.cmp(j))
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    if k < order.len() {
        order.select_nth_unstable_by(k, descending);
        order.truncate(k);
    }
    let mut is_largest = vec![false; values.len()];
    order.into_iter().for_each(|place| is_largest[place] = true);
    is_largest
}

/// The smallest of the k largest.
pub fn kth_largest(scores: &[f32], k: usize) -> f32 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    sorted[k.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal values keep the order of their indices: the lower index is picked first.
    #[test]
    fn ties_go_to_the_lower_index() {
        // The places in the order in which they are picked.
        for (values, order) in
            [([1.0, 3.0, 3.0, 2.0, 3.0], [1, 2, 4, 3, 0]), ([0.0, f64::NAN, -0.0, 1.0, f64::NAN], [1, 4, 3, 0, 2])]
        {
            for k in 0..=6 {
                let picks = &order[..k.min(5)];
                assert_eq!(
                    largest(&values, k),
                    [0, 1, 2, 3, 4].map(|place| picks.contains(&place)),
                    "{k} of {values:?}"
                );
            }
        }
    }

    /// Of two anchors both stay, whatever they receive; what equals the threshold does not.
    #[test]
    fn anchors_stay_and_equal_is_not_above() {
        let map = [0.0, 0.0, 0.25, 0.75, 0.0, 0.0, 0.75, 0.25, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5];
        // Columns 2 and 3 receive 2.0 each, which is half of 4.
        for (threshold, expected) in [(0.5, [true, true, false, false]), (0.499, [true; 4])] {
            let (goes_on, scores) = choose(Selection::Above(threshold), &map, 4, &[0, 1, 2, 3], 0, 2);
            assert_eq!((goes_on, scores), (expected.to_vec(), vec![0.0, 0.0, 0.5, 0.5]), "{threshold}");
        }
    }
}
