//! The rules that choose the kept tokens, as types and as text (`topk:0.5`).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

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
        match self.0.as_slice() {
            [one] => Some(vec![*one; num_layers]),
            all => (all.len() == num_layers).then(|| all.to_vec()),
        }
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
}

/// What is said to a name that is no rule's.
pub(super) const EXPECTED: &str =
    "expected dense, topk:R, concrete, oracle:R or forward:R (R: one ratio, or one per layer)";

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

    /// The ratios of a rule that has them.
    pub fn ratios(&self) -> Option<&Ratios> {
        match self {
            Self::TopK(ratios) | Self::Oracle(ratios) | Self::Forward(ratios) => Some(ratios),
            Self::Dense | Self::Concrete => None,
        }
    }

    /// Whether the rule looks at ApproxNet's attention.
    pub fn needs_approx_net(&self) -> bool {
        matches!(self, Self::TopK(_) | Self::Concrete)
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
        let ratios = || -> Result<Ratios> {
            let argument = argument.ok_or_else(|| error(format!("a ratio is missing, as in `{name}:0.5`")))?;
            let ratios = argument.split(',').map(|ratio| {
                let value: f64 = ratio.trim().parse().map_err(|_| error(format!("`{ratio}` is not a number")))?;
                Ratio::new(value)
                    .ok_or_else(|| error(format!("ratio {ratio} is out of range, expected 0 < ratio <= 1")))
            });
            Ok(Ratios(ratios.collect::<Result<_>>()?))
        };
        match (name, argument) {
            ("topk", _) => ratios().map(Self::TopK),
            ("oracle", _) => ratios().map(Self::Oracle),
            ("forward", _) => ratios().map(Self::Forward),
            ("dense", None) => Ok(Self::Dense),
            ("concrete", None) => Ok(Self::Concrete),
            ("dense" | "concrete", Some(_)) => Err(error(format!("`{name}` takes no ratio"))),
            _ => Err(error(EXPECTED.to_owned())),
        }
    }
}

impl fmt::Display for Prune {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dense => "dense",
            Self::TopK(_) => "topk:",
            Self::Concrete => "concrete",
            Self::Oracle(_) => "oracle:",
            Self::Forward(_) => "forward:",
        })?;
        for (place, ratio) in self.ratios().iter().flat_map(|ratios| &ratios.0).enumerate() {
            write!(formatter, "{}{}", if place == 0 { "" } else { "," }, ratio.0)?;
        }
        Ok(())
    }
}
