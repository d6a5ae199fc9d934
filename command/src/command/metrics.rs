//! The metrics of GLUE, as scikit-learn and SciPy compute them.

/// Share of equal pairs.
pub fn accuracy(found: &[usize], expected: &[usize]) -> f64 {
    let num_equal = found.iter().zip(expected).filter(|(found, expected)| found == expected).count();
    num_equal as f64 / expected.len().max(1) as f64
}

/// Of label 1: 2 · right / (found + expected). 0 where it is neither found nor expected.
pub fn f1(found: &[usize], expected: &[usize]) -> f64 {
    let count = |labels: &[usize]| labels.iter().filter(|label| **label == 1).count();
    let num_right = found.iter().zip(expected).filter(|pair| *pair == (&1, &1)).count();
    let num_all = count(found) + count(expected);
    2.0 * num_right as f64 / num_all.max(1) as f64
}

/// Matthews correlation of any number of labels; 0 where one side is constant.
pub fn matthews(found: &[usize], expected: &[usize]) -> f64 {
    let num_labels = found.iter().chain(expected).max().map_or(0, |largest| largest + 1);
    let counts = |labels: &[usize]| {
        let mut counts = vec![0.0; num_labels];
        labels.iter().for_each(|&label| counts[label] += 1.0);
        counts
    };
    let product = |one: &[f64], other: &[f64]| -> f64 { one.iter().zip(other).map(|(one, other)| one * other).sum() };
    let (of_found, of_expected) = (counts(found), counts(expected));
    let num_samples = found.len() as f64;
    let num_right = found.iter().zip(expected).filter(|(found, expected)| found == expected).count() as f64;
    let spread = |counts: &[f64]| num_samples * num_samples - product(counts, counts);
    let scale = (spread(&of_found) * spread(&of_expected)).sqrt();
    if scale > 0.0 { (num_right * num_samples - product(&of_found, &of_expected)) / scale } else { 0.0 }
}

/// Pearson correlation; 0 where one side is constant.
pub fn pearson(one: &[f64], other: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let mut sums = [0.0; 3];
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
    }
    let scale = (sums[1] * sums[2]).sqrt();
    if scale > 0.0 { sums[0] / scale } else { 0.0 }
}

/// Spearman correlation: Pearson's of the ranks.
pub fn spearman(one: &[f64], other: &[f64]) -> f64 {
    pearson(&ranks(one), &ranks(other))
}

/// From 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    let mut ranks = vec![0.0; values.len()];
    let mut num_before = 0;
    for equal in order.chunk_by(|&one, &other| values[one] == values[other]) {
        let rank = num_before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&at| ranks[at] = rank);
        num_before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    /// Right: 1 of label 1 (of 2 that are answered and 3 that are expected), 2 of label 0.
    const FOUND: [usize; 6] = [1, 1, 0, 0, 0, 0];
    const EXPECTED: [usize; 6] = [1, 0, 1, 1, 0, 0];

    #[test]
    fn of_labels() {
        check(accuracy(&FOUND, &EXPECTED), 0.5);
        check(f1(&FOUND, &EXPECTED), 2.0 / 5.0);
        // tp 1, tn 2, fp 1, fn 2: 1 · 2 − 1 · 2.
        check(matthews(&FOUND, &EXPECTED), 0.0);
        // scikit-learn's own example: tp 2, tn 0, fp 1, fn 1.
        check(matthews(&[1, 0, 1, 1], &[1, 1, 1, 0]), -1.0 / 3.0);
        // tp 2, tn 3, fp 1, fn 0: (2 · 3 − 1 · 0) / sqrt(3 · 2 · 4 · 3)
        check(matthews(&[1, 1, 1, 0, 0, 0], &[1, 1, 0, 0, 0, 0]), 6.0 / 72f64.sqrt());
        check(f1(&[1, 1, 1, 0, 0, 0], &[1, 1, 0, 0, 0, 0]), 0.8);
        // Three labels: 4 of 5 right; counts 2, 2, 1 and 2, 1, 2; (4 · 5 − 8) / sqrt((25 − 9) (25 − 9)).
        check(matthews(&[0, 0, 1, 1, 2], &[0, 0, 1, 2, 2]), (4.0 * 5.0 - 8.0) / 16.0);
    }

    #[test]
    fn of_constant_answers() {
        check(matthews(&[1; 4], &[1, 0, 1, 0]), 0.0);
        check(matthews(&[1; 4], &[1; 4]), 0.0);
        check(f1(&[0; 4], &[0; 4]), 0.0);
        check(f1(&[1; 4], &[1, 0, 1, 0]), 2.0 / 3.0);
        check(pearson(&[2.0; 3], &[1.0, 2.0, 3.0]), 0.0);
        check(spearman(&[2.0; 3], &[1.0, 2.0, 3.0]), 0.0);
        check(accuracy(&[], &[]), 0.0);
        check(matthews(&[], &[]), 0.0);
        check(spearman(&[], &[]), 0.0);
    }

    #[test]
    fn of_numbers() {
        check(
            pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.5]),
            4.5 / (2.0 * (6.5_f64.powi(2) + 20.0 - 12.5 * 12.5 / 3.0)).sqrt(),
        );
        // Any rising function has the same ranks.
        check(spearman(&[1.0, 2.0, 30.0], &[-5.0, 0.0, 0.1]), 1.0);
        check(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: 4.5 / sqrt(4.5 · 5).
        assert_eq!(ranks(&[10.0, 20.0, 20.0, 30.0]), [1.0, 2.5, 2.5, 4.0]);
        check(spearman(&[10.0, 20.0, 20.0, 30.0], &[1.0, 3.0, 2.0, 4.0]), 4.5 / (4.5 * 5.0_f64).sqrt());
        // Not 1 − 6 Σ d² / (n (n² − 1)) = 0.95, which is for values without ties.
        assert!((spearman(&[10.0, 20.0, 20.0, 30.0], &[1.0, 3.0, 2.0, 4.0]) - 0.95).abs() > 1e-3);
    }

    /// By hand: tp 2, fp 1, fn 1, tn 2.
    #[test]
    fn of_two_labels() {
        let (found, expected) = ([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]);
        check(accuracy(&found, &expected), 4.0 / 6.0);
        check(f1(&found, &expected), 4.0 / 6.0);
        check(matthews(&found, &expected), (4.0 - 1.0) / 9.0);
    }
}
