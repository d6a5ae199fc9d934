//! How good answers are.

use sttabt_command::command::metrics::{accuracy, f1, matthews, pearson, spearman};

use crate::loss::Label;

/// A number for all answers together; the larger the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Share of right labels.
    Accuracy,
    /// Of label 1: 2 · right / (answered + expected).
    F1,
    /// Matthews correlation of the labels: 0 is chance.
    Matthews,
    /// Correlation of numbers.
    Pearson,
    /// Correlation of their ranks.
    Spearman,
}

impl Metric {
    /// In a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
        }
    }

    /// Compares a network's outputs with what they should be: its largest logits with labels, or its first outputs with numbers.
    pub fn of(self, outputs: &[Vec<f32>], labels: &[Label]) -> f64 {
        let classes = || -> (Vec<usize>, Vec<usize>) {
            let expected = labels.iter().map(|label| match *label {
                Label::Class(class) => class,
                Label::Value(value) => value as usize,
            });
            (outputs.iter().map(|output| largest(output)).collect(), expected.collect())
        };
        let numbers = || -> (Vec<f64>, Vec<f64>) {
            let expected = labels.iter().map(|label| match *label {
                Label::Class(class) => class as f64,
                Label::Value(value) => value,
            });
            (outputs.iter().map(|output| first(output)).collect(), expected.collect())
        };
        let of_classes = |metric: fn(&[usize], &[usize]) -> f64| {
            let (found, expected) = classes();
            metric(&found, &expected)
        };
        let of_numbers = |metric: fn(&[f64], &[f64]) -> f64| {
            let (found, expected) = numbers();
            metric(&found, &expected)
        };
        match self {
            Self::Accuracy => of_classes(accuracy),
            Self::F1 => of_classes(f1),
            Self::Matthews => of_classes(matthews),
            Self::Pearson => of_numbers(pearson),
            Self::Spearman => of_numbers(spearman),
        }
    }
}

/// The place of the largest one; the first of several.
pub fn largest(values: &[f32]) -> usize {
    (0..values.len()).reduce(|best, at| if values[at] > values[best] { at } else { best }).unwrap_or(0)
}

/// What a network with one output says.
pub fn first(output: &[f32]) -> f64 {
    f64::from(output.first().copied().unwrap_or_default())
}

/// The share of those that are true.
pub fn share(are_true: impl Iterator<Item = bool>) -> f64 {
    let (mut num_true, mut num_all) = (0, 0);
    for is_true in are_true {
        num_true += usize::from(is_true);
        num_all += 1;
    }
    num_true as f64 / f64::from(num_all.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn of_outputs() {
        let outputs = [vec![0.1, 0.2], vec![3.0, -1.0], vec![0.0, 0.0], vec![-2.0, 5.0]];
        let labels = [1, 0, 1, 1].map(Label::Class);
        check(Metric::Accuracy.of(&outputs, &labels), 0.75);
        check(Metric::F1.of(&outputs, &labels), 0.8);
        let scores = [0.5, 3.5, 0.4, 0.1].map(Label::Value);
        // 0.1, 3, 0 and -2 have the order of the scores.
        check(Metric::Spearman.of(&outputs, &scores), 1.0);
        assert!(Metric::Pearson.of(&outputs, &scores) > 0.8);
        assert_eq!(largest(&[0.0, 0.0]), 0);
    }
}
