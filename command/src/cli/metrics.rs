//! The metrics of GLUE. Where one is undefined (a class that never occurs, a constant prediction), it is 0.

/// Share of equal pairs.
pub fn accuracy(predicted: &[usize], expected: &[usize]) -> f64 {
    let equal = predicted.iter().zip(expected).filter(|(a, b)| a == b).count();
    equal as f64 / expected.len().max(1) as f64
}

/// True positives, false positives, false negatives, true negatives of label 1.
fn confusion(predicted: &[usize], expected: &[usize]) -> [f64; 4] {
    let mut counts = [0.0; 4];
    for (&predicted, &expected) in predicted.iter().zip(expected) {
        let cell = match (predicted == 1, expected == 1) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        counts[cell] += 1.0;
    }
    counts
}

/// F1 of label 1.
pub fn f1(predicted: &[usize], expected: &[usize]) -> f64 {
    let [tp, fp, fn_, _] = confusion(predicted, expected);
    ratio(2.0 * tp, 2.0 * tp + fp + fn_)
}

/// Matthews correlation of two labels.
pub fn matthews(predicted: &[usize], expected: &[usize]) -> f64 {
    let [tp, fp, fn_, tn] = confusion(predicted, expected);
    ratio(tp * tn - fp * fn_, ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt())
}

/// Pearson correlation.
pub fn pearson(predicted: &[f64], expected: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_p, mean_e) = (mean(predicted), mean(expected));
    let mut sums = [0.0; 3];
    for (p, e) in predicted.iter().zip(expected) {
        sums[0] += (p - mean_p) * (e - mean_e);
        sums[1] += (p - mean_p).powi(2);
        sums[2] += (e - mean_e).powi(2);
    }
    ratio(sums[0], (sums[1] * sums[2]).sqrt())
}

/// Spearman correlation: Pearson's of the ranks, ties averaged.
pub fn spearman(predicted: &[f64], expected: &[f64]) -> f64 {
    pearson(&ranks(predicted), &ranks(expected))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &index in group {
            ranks[index] = start as f64 + (group.len() - 1) as f64 / 2.0;
        }
        start += group.len();
    }
    ranks
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
    }

    /// Worked by hand: tp 2, fp 1, fn 1, tn 2.
    #[test]
    fn classification_metrics() {
        let (predicted, expected) = ([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]);
        close(accuracy(&predicted, &expected), 4.0 / 6.0);
        close(f1(&predicted, &expected), 4.0 / 6.0);
        close(matthews(&predicted, &expected), (4.0 - 1.0) / 9.0);
    }

    #[test]
    fn correlations() {
        close(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), 1.0);
        close(pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]), 0.8);
        // Ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3: covariance 4.5, squares 4.5 and 5.
        close(spearman(&[1.0, 5.0, 5.0, 9.0], &[10.0, 20.0, 30.0, 400.0]), 4.5 / 22.5f64.sqrt());
    }

    #[test]
    fn undefined_metrics_are_zero() {
        close(f1(&[0, 0], &[0, 0]), 0.0);
        close(matthews(&[1, 1], &[1, 1]), 0.0);
        close(pearson(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }
}
