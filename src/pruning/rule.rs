//! What a rule is, and the numbers that it takes.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is known of a rule without a model: a row of [`RULES`](crate::RULES).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// As in `topk:0.5`.
    pub name: &'static str,
    /// What follows the name.
    pub argument: Argument,
    /// What the model must have, unless the argument brings it.
    pub needs: &'static [Need],
    /// One sentence without its full stop.
    pub about: &'static str,
}

/// What follows a rule's name, after a colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Argument {
    /// Nothing.
    None,
    /// One ratio, or one per layer.
    Ratios,
    /// Nothing, or one threshold, or one per layer.
    Thresholds,
}

/// What a model must have for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A network that predicts its attention.
    ApproxNet,
    /// The learned thresholds of `concrete`.
    PLogits,
    /// The learned thresholds of `ltp`.
    LtpThresholds,
    /// An output that is made of the anchors alone.
    ClsOutput,
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ApproxNet => "an ApproxNet (folder approx/)",
            Self::ClsOutput => "an embedding that is made of [CLS] alone (1_Pooling/config.json)",
            Self::PLogits => "learned thresholds (tensors encoder.layer.{i}.p_logit)",
            Self::LtpThresholds => {
                "learned thresholds (tensors encoder.layer.{i}.ltp_threshold), or given ones as in `ltp:0.01`"
            }
        })
    }
}

/// As its text.
impl Serialize for Need {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Rule {
    /// How it is written: `dense`, `topk:R`, `ltp[:T]`.
    pub fn syntax(&self) -> String {
        match self.argument {
            Argument::None => self.name.to_owned(),
            Argument::Ratios => format!("{}:R", self.name),
            Argument::Thresholds => format!("{}[:T]", self.name),
        }
    }
}

/// The constants of the recursions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    pub concrete_temperature: f32,
    pub concrete_hard_threshold: f32,
    pub topk_impact_weight: f32,
    pub concrete_impact_weight: f32,
}

/// A share of the tokens: greater than 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// `None` unless 0 < `value` ≤ 1.
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value <= 1.0).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// ⌈r · T⌉, the k of top-k back-tracking.
    pub fn ceil_of(self, num_tokens: usize) -> usize {
        ((self.0 * num_tokens as f64).ceil() as usize).min(num_tokens)
    }

    /// max(1, ⌊r · T⌋), the k of the forward rule.
    pub fn floor_of(self, num_tokens: usize) -> usize {
        ((self.0 * num_tokens as f64).floor() as usize).max(1)
    }
}

/// One ratio for every layer, or one per layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratios(pub(super) Vec<Ratio>);

impl Ratios {
    /// The same ratio for every layer; `None` unless 0 < `value` ≤ 1.
    pub fn uniform(value: f64) -> Option<Self> {
        Ratio::new(value).map(|ratio| Self(vec![ratio]))
    }

    /// One ratio per layer, first layer first; `None` when empty or when one is not in (0, 1].
    pub fn per_layer(values: &[f64]) -> Option<Self> {
        let ratios: Option<Vec<_>> = values.iter().map(|&value| Ratio::new(value)).collect();
        ratios.filter(|ratios| !ratios.is_empty()).map(Self)
    }

    /// The ratio of each of `num_layers` layers; `None` when there is another number of them.
    pub fn for_layers(&self, num_layers: usize) -> Option<Vec<Ratio>> {
        for_layers(&self.0, num_layers)
    }

    /// How many ratios are given.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is at least one ratio.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One threshold of received attention for every layer, or one per layer (`ltp`): each from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds(pub(super) Vec<f32>);

impl Thresholds {
    /// First layer first; `None` when empty or when one is not in [0, 1].
    pub fn new(values: &[f32]) -> Option<Self> {
        let all_fit = values.iter().all(|value| (0.0..=1.0).contains(value));
        (!values.is_empty() && all_fit).then(|| Self(values.to_vec()))
    }

    /// The threshold of each of `num_layers` layers; `None` when there is another number of them.
    pub fn for_layers(&self, num_layers: usize) -> Option<Vec<f32>> {
        for_layers(&self.0, num_layers)
    }

    /// How many thresholds are given.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is at least one threshold.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One value stands for all layers.
fn for_layers<T: Copy>(values: &[T], num_layers: usize) -> Option<Vec<T>> {
    match values {
        [one] => Some(vec![*one; num_layers]),
        all => (all.len() == num_layers).then(|| all.to_vec()),
    }
}
