//! Which number of a result is a passage's score.

use super::request::{Classification, Outputs};
use crate::error::{Error, Result};
use crate::models::{Config, Model, Task};

/// Labels that a message lists.
const LISTED: usize = 10;

/// Where a score comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// The model's one output.
    Output,
    /// Its sigmoid.
    Sigmoid,
    /// The probability of a label.
    Label(usize),
    /// The probability of a label that others do not make smaller.
    OwnLabel(usize),
}

impl Scorer {
    /// What the model gives, or what of it was asked for.
    ///
    /// # Errors
    /// [`Error::Head`] for a model without outputs; [`Error::Label`] names the labels of one with several of them, if `label` chooses none.
    pub fn of(model: &Model, label: Option<&str>) -> Result<Self> {
        let Config { task, labels, .. } = model.config();
        if *task == Task::Embedding {
            let needs = "a score or labels (`embed` gives vectors to compare)";
            return Err(Error::Head { asked: "rank", needs, found: "an embedder" });
        }
        let chosen = label.map(|label| index_of(label, labels)).transpose()?;
        match (labels.len(), chosen) {
            (1, _) => Ok(if model.score_activation().is_sigmoid()? { Self::Sigmoid } else { Self::Output }),
            (_, Some(label)) if *task == Task::MultiLabel => Ok(Self::OwnLabel(label)),
            (_, Some(label)) => Ok(Self::Label(label)),
            (num_labels, None) => Err(Error::Label {
                reason: format!(
                    "`rank` needs one score, and this model has {num_labels} labels ({}): `label` chooses the one whose probability counts",
                    list(labels)
                ),
            }),
        }
    }

    /// What a run is to give for it.
    pub fn outputs(self) -> Outputs {
        // A single output's probability is given on request.
        Outputs { sigmoid: self == Self::Sigmoid, ..Outputs::default() }
    }

    /// The name of the label that was chosen.
    pub fn label(self, model: &Model) -> Option<String> {
        match self {
            Self::Output | Self::Sigmoid => None,
            Self::Label(label) | Self::OwnLabel(label) => model.config().labels.get(label).cloned(),
        }
    }

    /// What the caller sees.
    pub fn score(self, result: &Classification) -> f32 {
        let (values, place) = match self {
            Self::Output => (&result.logits, 0),
            Self::Sigmoid => (&result.probs, 0),
            Self::Label(label) | Self::OwnLabel(label) => (&result.probs, label),
        };
        values.get(place).copied().unwrap_or_default()
    }

    /// What decides the order: a score that does not end at 1.
    pub fn logit(self, logits: &[f32]) -> f32 {
        let at = |place: usize| logits.get(place).copied().unwrap_or_default();
        match self {
            Self::Output | Self::Sigmoid => at(0),
            Self::OwnLabel(label) => at(label),
            Self::Label(label) => {
                let others = logits.iter().enumerate().filter(|(other, _)| *other != label);
                let others: Vec<f64> = others.map(|(_, &logit)| f64::from(logit)).collect();
                let largest = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = others.iter().map(|other| (other - largest).exp()).sum();
                let odds = f64::from(at(label)) - largest - sum.ln();
                odds.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
            }
        }
    }
}

/// A label by its name, or where none is called so, by its index.
fn index_of(label: &str, labels: &[String]) -> Result<usize> {
    let named: Vec<usize> = (0..labels.len()).filter(|&place| labels[place] == label).collect();
    match (named.as_slice(), label.parse::<usize>()) {
        ([place], _) => Ok(*place),
        ([], Ok(place)) if place < labels.len() => Ok(place),
        ([first, second, ..], _) => {
            let reason = format!("labels {first} and {second} are both called `{label}`: give an index instead");
            Err(Error::Label { reason })
        }
        _ => {
            let most = labels.len().saturating_sub(1);
            Err(Error::Label {
                reason: format!("no label `{label}`, expected one of {}, or 0 to {most}", list(labels)),
            })
        }
    }
}

/// The names of labels, or the first ones.
fn list(labels: &[String]) -> String {
    let names: Vec<String> = labels.iter().take(LISTED).map(|label| format!("`{label}`")).collect();
    let more = if labels.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn labels_have_names_or_else_an_index() {
        let labels = names(&["no", "yes", "1", "yes"]);
        for (label, expected) in [
            ("no", Ok(0)),
            ("1", Ok(2)),
            ("3", Ok(3)),
            ("yes", Err("labels 1 and 3 are both called `yes`: give an index instead")),
            ("No", Err("no label `No`, expected one of `no`, `yes`, `1`, `yes`, or 0 to 3")),
            ("4", Err("no label `4`, expected one of `no`, `yes`, `1`, `yes`, or 0 to 3")),
        ] {
            let found = index_of(label, &labels).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{label}");
        }
    }

    /// Of two labels the difference; of three, from the probability itself.
    #[test]
    fn a_label_s_logit_is_the_logarithm_of_its_odds() {
        assert_eq!(Scorer::Label(1).logit(&[-1.5, 2.0]), 3.5);
        let logits = [1.0f32, 0.5, -2.0];
        let exps = logits.map(|logit| f64::from(logit).exp());
        let prob = exps[0] / exps.iter().sum::<f64>();
        let expected = (prob / (1.0 - prob)).ln();
        assert!((f64::from(Scorer::Label(0).logit(&logits)) - expected).abs() < 1e-6);
        // Where probabilities are all 1, and where f32 ends.
        assert!(Scorer::Label(0).logit(&[200.0, 0.0]) < Scorer::Label(0).logit(&[201.0, 0.0]));
        assert_eq!(Scorer::Label(0).logit(&[3e38, -3e38]), f32::MAX);
        assert_eq!((Scorer::OwnLabel(1).logit(&[9.0, 2.0]), Scorer::Output.logit(&[7.0])), (2.0, 7.0));
    }
}
