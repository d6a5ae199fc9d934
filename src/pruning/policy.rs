//! Whether pruning pays: FLOPs saved are not always time saved, and what a device saves shows in what it has needed before.

use std::str::FromStr;

use serde::Serialize;

use super::prune::{Prune, expected};
use crate::error::{Error, Result};

/// What a caller asks for: a rule, or `auto`, `auto:RULE`.
#[derive(Debug, Clone, PartialEq)]
pub enum PruneMode {
    /// This rule.
    Rule(Prune),
    /// This rule, or without one the model's own, where that is faster than dense: see [`Policy`].
    Auto(Option<Prune>),
}

impl FromStr for PruneMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mode = match text.strip_prefix("auto") {
            Some("") => Ok(Self::Auto(None)),
            Some(named) if named.starts_with(':') => named[1..].parse().map(|rule| Self::Auto(Some(rule))),
            _ => text.parse().map(Self::Rule),
        };
        mode.map_err(|error| match error {
            // What is wrong with a known rule has nothing to do with `auto`.
            Error::Rule { reason, .. } if reason == expected() => {
                Error::Rule { rule: text.to_owned(), reason: format!("{reason}; or auto, auto:RULE") }
            }
            other => other,
        })
    }
}

/// A measured run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// What the dense model would need for the same inputs.
    pub dense_flops: u64,
    pub ms: f64,
}

/// Milliseconds of a run as a line over the FLOPs of the dense model: what every run costs, and what more tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    fixed_ms: f64,
    ms_per_flop: f64,
}

impl Line {
    /// Through a small and a large run. A large run that was no slower, which is noise, costs as much as the small one.
    fn new([small, large]: [Cost; 2]) -> Self {
        let flops = large.dense_flops.saturating_sub(small.dense_flops);
        let ms_per_flop =
            if flops == 0 || small.ms.is_infinite() { 0.0 } else { ((large.ms - small.ms) / flops as f64).max(0.0) };
        Self { fixed_ms: small.ms - ms_per_flop * small.dense_flops as f64, ms_per_flop }
    }

    fn ms(&self, dense_flops: u64) -> f64 {
        // Below the small run a steep line would end under 0.
        (self.fixed_ms + self.ms_per_flop * dense_flops as f64).max(0.0)
    }
}

/// Runs a rule where that pays on this device, and the dense model where it does not;
/// [`Engine::measure_policy`](crate::Engine::measure_policy) makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    prune: Prune,
    dense: Line,
    pruned: Line,
}

/// What a [`Policy`] chose for a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The rule, or `dense`.
    pub prune: Prune,
    /// Predicted milliseconds of the batch with the dense model.
    pub dense_ms: f64,
    /// Predicted milliseconds of the batch with the rule; infinite (in JSON `null`) where an input has more tokens than rules take.
    pub pruned_ms: f64,
}

impl Policy {
    /// From a small and a large run each.
    pub(crate) fn new(prune: Prune, dense: [Cost; 2], pruned: [Cost; 2]) -> Self {
        Self { prune, dense: Line::new(dense), pruned: Line::new(pruned) }
    }

    /// The rule that it runs where that pays.
    pub fn prune(&self) -> &Prune {
        &self.prune
    }

    /// For a batch that costs the dense model so many FLOPs.
    pub fn decide(&self, dense_flops: u64) -> Decision {
        let (dense_ms, pruned_ms) = (self.dense.ms(dense_flops), self.pruned.ms(dense_flops));
        let prune = if pruned_ms < dense_ms { self.prune.clone() } else { Prune::Dense };
        Decision { prune, dense_ms, pruned_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(dense_flops: u64, ms: f64) -> Cost {
        Cost { dense_flops, ms }
    }

    #[test]
    fn pruning_pays_from_the_crossing_on() {
        // dense: 1 + F, pruned: 3 + F / 2; they cross at F = 4.
        let rule = Prune::top_k(0.3).unwrap();
        let policy = Policy::new(rule.clone(), [cost(2, 3.0), cost(10, 11.0)], [cost(2, 4.0), cost(10, 8.0)]);
        for (flops, prune, dense_ms, pruned_ms) in [
            (0, &Prune::Dense, 1.0, 3.0),
            (4, &Prune::Dense, 5.0, 5.0),
            (5, &rule, 6.0, 5.5),
            (100, &rule, 101.0, 53.0),
        ] {
            let decision = Decision { prune: prune.clone(), dense_ms, pruned_ms };
            assert_eq!(policy.decide(flops), decision, "{flops} FLOPs");
        }
    }

    #[test]
    fn noise_gives_no_nonsense() {
        let rule = Prune::top_k(0.3).unwrap();
        for (small, large) in [(cost(5, 2.0), cost(5, 2.0)), (cost(5, 2.0), cost(9, 1.0)), (cost(5, 0.0), cost(6, 9.0))]
        {
            let policy = Policy::new(rule.clone(), [small, large], [small, large]);
            for flops in [0, 1, 5, 1 << 60] {
                let Decision { prune, dense_ms, pruned_ms } = policy.decide(flops);
                assert!(
                    dense_ms >= 0.0 && dense_ms.is_finite() && dense_ms == pruned_ms,
                    "{small:?} {large:?} {flops}"
                );
                assert_eq!(prune, Prune::Dense);
            }
        }
    }
}
