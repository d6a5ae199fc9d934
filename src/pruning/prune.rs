//! The rules that choose the kept tokens, as one type and as text (`topk:0.5`), and the plan of each. The one file that knows all rules.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::attention::MapsOf;
use super::plan::{Facts, Plan, Search};
use super::rule::{Argument, Constants, Need, Ratio, Ratios, Rule, Thresholds};
use super::{concrete, forward, ltp, top_k};
use crate::error::{Error, Result};

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

impl PruneConfig {
    /// Without the rule.
    pub(crate) fn constants(&self) -> Constants {
        let Self { concrete_temperature, concrete_hard_threshold, topk_impact_weight, concrete_impact_weight, .. } =
            *self;
        Constants { concrete_temperature, concrete_hard_threshold, topk_impact_weight, concrete_impact_weight }
    }
}

/// Which tokens to keep, and how to find them (paper, section 3). `docs/command.md` explains each rule in a line.
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
                ratios.0.iter().map(|ratio| ratio.get()).collect()
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

impl Facts<'_> {
    /// What a rule needs and the model does not have.
    pub fn lacks(&self, prune: &Prune) -> Option<Need> {
        self.lacks_of(prune.rule(), prune.needs())
    }

    /// What a rule needs, unless its numbers bring it, and the model does not have.
    pub fn lacks_for(&self, rule: &Rule) -> Option<Need> {
        self.lacks_of(rule, rule.needs)
    }

    fn lacks_of(&self, rule: &Rule, needs: &[Need]) -> Option<Need> {
        let of_all = (*rule != DENSE).then_some(Need::ClsOutput);
        needs.iter().copied().chain(of_all).find(|need| !self.has(*need))
    }
}

impl Plan {
    /// For samples of `lengths` tokens.
    ///
    /// # Errors
    /// [`Error::RuleNeeds`] when the model lacks what the rule looks at, or has another number of layers than the rule has numbers.
    pub fn of(prune: &Prune, facts: &Facts<'_>, lengths: &[usize]) -> Result<Self> {
        if let Some(need) = facts.lacks(prune) {
            let way_out = if need == Need::ClsOutput { "; `dense` runs" } else { "" };
            return Err(prune.needs_error(&format!("{need}, and this model has none{way_out}")));
        }
        let num_layers = facts.main.num_hidden_layers;
        let each = |numbers: &str, found: usize| {
            prune.needs_error(&format!("one {numbers} or {num_layers}, one per layer, not {found}"))
        };
        let ratios = || match prune.ratios() {
            Some(ratios) => ratios.for_layers(num_layers).ok_or_else(|| each("ratio", ratios.len())),
            None => Ok(Vec::new()),
        };
        Ok(match prune {
            Prune::Dense => Self::new(Search::Nothing, facts, Vec::new(), vec![lengths.iter().sum(); num_layers + 1]),
            Prune::TopK(_) => top_k::plan(MapsOf::ApproxNet, &ratios()?, facts, lengths),
            Prune::Oracle(_) => top_k::plan(MapsOf::Model, &ratios()?, facts, lengths),
            Prune::Concrete => concrete::plan(facts, lengths),
            Prune::Forward(_) => forward::plan(&ratios()?, facts, lengths),
            Prune::Ltp(Some(given)) => {
                let thresholds = given.for_layers(num_layers).ok_or_else(|| each("threshold", given.len()))?;
                ltp::plan(&thresholds, facts, lengths)
            }
            Prune::Ltp(None) => ltp::plan(facts.ltp_thresholds.unwrap_or_default(), facts, lengths),
        })
    }
}

/// [`Error::RuleNeeds`] when a rule that keeps attention maps gets more tokens than its kernels hold. `first` is the
/// place of the first input in its request. `elsewhere` says what takes more, if anything does.
pub fn check_lengths(
    prune: &Prune,
    first: usize,
    lengths: &[usize],
    max_tokens: usize,
    elsewhere: Option<&str>,
) -> Result<()> {
    let too_long = |&(_, &length): &(usize, &usize)| *prune != Prune::Dense && length > max_tokens;
    let Some((sample, length)) = lengths.iter().enumerate().find(too_long) else { return Ok(()) };
    let elsewhere = elsewhere.map(|elsewhere| format!("{elsewhere}, and ")).unwrap_or_default();
    Err(prune.needs_error(&format!(
        "inputs of at most {max_tokens} tokens, input {} has {length}; {elsewhere}`dense` has no such limit",
        first + sample + 1
    )))
}

impl Prune {
    fn needs_error(&self, needs: &str) -> Error {
        Error::RuleNeeds { rule: self.to_string(), needs: needs.to_owned() }
    }
}
