//! The rules that choose the kept tokens, as types and as text (`topk:0.5`).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{concrete, forward, ltp, top_k};
use crate::error::{Error, Result};

/// What is known of a rule without a model: a row of [`RULES`].
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
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ApproxNet => "an ApproxNet (folder approx/)",
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

const DENSE: Rule =
    Rule { name: "dense", argument: Argument::None, needs: &[], about: "keeps all tokens: the model without pruning" };

/// All rules, in the order in which they are listed to people.
pub const RULES: [Rule; 6] = [DENSE, top_k::TOP_K, concrete::CONCRETE, top_k::ORACLE, forward::FORWARD, ltp::LTP];

/// The constants of the pruning rules, from the key `sttabt` of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneConfig {
    /// τ of Rule 2.
    pub concrete_temperature: f32,
    /// Rule 2 keeps the tokens whose soft mask is at least this.
    pub concrete_hard_threshold: f32,
    /// q of Rule 1: how much the score of the layer above counts.
    pub topk_impact_weight: f32,
    /// q of Rule 2.
    pub concrete_impact_weight: f32,
    /// The rule for callers who name none.
    pub default_prune: Option<Prune>,
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
pub struct Ratios(Vec<Ratio>);

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
pub struct Thresholds(Vec<f32>);

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

/// Which tokens to keep, and how to find them (paper, section 3; the comparison modes are in the README).
///
/// ```
/// use sttabt::Prune;
/// assert_eq!("topk:0.5".parse(), Ok(Prune::top_k(0.5).unwrap()));
/// assert_eq!(Prune::parse_list("dense,topk:0.9,0.7").unwrap().len(), 2);
/// assert!("topk:1.5".parse::<Prune>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Prune {
    /// No pruning.
    Dense,
    /// Top-k back-tracking on ApproxNet's attention (Rule 1).
    TopK(Ratios),
    /// Concrete masking: learned thresholds on ApproxNet's attention (Rule 2).
    Concrete,
    /// Rule 1 on the model's own attention, from a full dense pass: an upper bound, not faster.
    Oracle(Ratios),
    /// Each layer keeps the tokens that received most attention in it ("Manual Top-k").
    Forward(Ratios),
    /// Each layer keeps the tokens that received more attention in it than a threshold: learned ones, or these.
    Ltp(Option<Thresholds>),
}

/// What is said to a name that is no rule's.
pub(super) fn expected() -> String {
    let names = RULES.map(|rule| rule.syntax());
    let (last, others) = (&names[names.len() - 1], &names[..names.len() - 1]);
    let numbers = "R: one ratio, T: one threshold, or one per layer";
    format!("expected {} or {last} ({numbers})", others.join(", "))
}

impl Prune {
    /// Rule 1 with one ratio for every layer; `None` unless 0 < `ratio` ≤ 1.
    pub fn top_k(ratio: f64) -> Option<Self> {
        Ratios::uniform(ratio).map(Self::TopK)
    }

    /// Reads `dense,topk:0.9,0.7,concrete`: a comma before a letter starts the next rule.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut rules: Vec<String> = Vec::new();
        for part in text.split(',') {
            match rules.last_mut() {
                Some(rule) if !part.trim_start().starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    rule.push(',');
                    rule.push_str(part);
                }
                _ => rules.push(part.to_owned()),
            }
        }
        rules.iter().map(|rule| rule.trim().parse()).collect()
    }

    /// Its row in [`RULES`].
    pub fn rule(&self) -> &'static Rule {
        match self {
            Self::Dense => &DENSE,
            Self::TopK(_) => &top_k::TOP_K,
            Self::Concrete => &concrete::CONCRETE,
            Self::Oracle(_) => &top_k::ORACLE,
            Self::Forward(_) => &forward::FORWARD,
            Self::Ltp(_) => &ltp::LTP,
        }
    }

    /// Whether nothing is pruned.
    pub fn is_dense(&self) -> bool {
        *self == Self::Dense
    }

    /// The ratios of a rule that has them.
    pub fn ratios(&self) -> Option<&Ratios> {
        match self {
            Self::TopK(ratios) | Self::Oracle(ratios) | Self::Forward(ratios) => Some(ratios),
            Self::Dense | Self::Concrete | Self::Ltp(_) => None,
        }
    }

    /// The numbers after its name: ratios or thresholds; empty without any.
    pub fn numbers(&self) -> Vec<f64> {
        match self {
            Self::TopK(ratios) | Self::Oracle(ratios) | Self::Forward(ratios) => {
                ratios.0.iter().map(|ratio| ratio.0).collect()
            }
            // As short as it was written: 0.01, not the f64 next to the f32.
            Self::Ltp(Some(given)) => given.0.iter().filter_map(|value| value.to_string().parse().ok()).collect(),
            Self::Dense | Self::Concrete | Self::Ltp(None) => Vec::new(),
        }
    }

    /// What the model must have.
    pub fn needs(&self) -> &'static [Need] {
        if matches!(self, Self::Ltp(Some(_))) { &[] } else { self.rule().needs }
    }
}

impl FromStr for Prune {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = |reason: String| Error::Rule { rule: text.to_owned(), reason };
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let number = |text: &str| text.trim().parse().map_err(|_| error(format!("`{text}` is not a number")));
        let ratios = || -> Result<Ratios> {
            let argument = argument.ok_or_else(|| error(format!("a ratio is missing, as in `{name}:0.5`")))?;
            let ratios = argument.split(',').map(|ratio| {
                Ratio::new(number(ratio)?)
                    .ok_or_else(|| error(format!("ratio {ratio} is out of range, expected 0 < ratio <= 1")))
            });
            Ok(Ratios(ratios.collect::<Result<_>>()?))
        };
        let thresholds = || -> Result<Option<Thresholds>> {
            let Some(argument) = argument else { return Ok(None) };
            let thresholds = argument.split(',').map(|text| {
                let threshold = number(text)? as f32;
                let fits = (0.0..=1.0).contains(&threshold);
                let expected = || error(format!("threshold {text} is out of range, expected 0 <= threshold <= 1"));
                fits.then_some(threshold).ok_or_else(expected)
            });
            Ok(Some(Thresholds(thresholds.collect::<Result<_>>()?)))
        };
        let rule = RULES.iter().find(|rule| rule.name == name).ok_or_else(|| error(expected()))?;
        if rule.argument == Argument::None && argument.is_some() {
            return Err(error(format!("`{name}` takes no ratio")));
        }
        match rule.name {
            "dense" => Ok(Self::Dense),
            "topk" => ratios().map(Self::TopK),
            "concrete" => Ok(Self::Concrete),
            "oracle" => ratios().map(Self::Oracle),
            "forward" => ratios().map(Self::Forward),
            "ltp" => thresholds().map(Self::Ltp),
            _ => Err(error(expected())),
        }
    }
}

/// As text: `topk:0.5`.
impl Serialize for Prune {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Prune {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.rule().name)?;
        for (place, number) in self.numbers().iter().enumerate() {
            write!(formatter, "{}{number}", if place == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
