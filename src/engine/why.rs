//! From a classification back to the reason for one of its choices.

use super::request::Classification;
use super::session::threshold_logits;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::pruning::{Choice, Found, Prune, Ratios, Why, why};

impl Classification {
    /// Why `position` survived `layer`, or did not, in this run of `model`, which asked for both [`Outputs`](crate::Outputs).
    /// Layers count from 0; `forward` chooses nothing in the last one.
    ///
    /// # Errors
    /// [`Error::Rule`] when nothing was chosen (`dense`), when outputs are missing, for a layer or position that is not there, and
    /// for another model than that of the run.
    pub fn why(&self, model: &Model, layer: usize, position: usize) -> Result<Why> {
        let error = |reason: String| Error::Rule { rule: self.prune.to_string(), reason };
        let dense = || error("all tokens are kept, nothing is chosen".to_owned());
        if self.prune == Prune::Dense {
            return Err(dense());
        }
        let (Some(token_scores), Some(attention_maps)) = (&self.token_scores, &self.attention_maps) else {
            return Err(error("there are no token scores and attention maps that could tell why".to_owned()));
        };
        let (Some(scores), true) = (token_scores.get(layer), layer < attention_maps.len()) else {
            return Err(error(format!(
                "layer {layer} chooses nothing, expected 0 … {}",
                token_scores.len().max(1) - 1
            )));
        };
        let num_tokens = scores.len();
        if position >= num_tokens {
            return Err(error(format!("position {position} is out of range, expected 0 … {}", num_tokens - 1)));
        }
        let num_layers = model.config().num_hidden_layers;
        let thresholds = threshold_logits(model);
        let ratio = |ratios: &Ratios| ratios.for_layers(num_layers).and_then(|ratios| ratios.get(layer).copied());
        let constants = &model.config().prune;
        let other_model = || error("the run of another model".to_owned());
        if self.kept.len() != num_layers + 1 {
            return Err(other_model());
        }
        let choice = match &self.prune {
            Prune::TopK(ratios) | Prune::Oracle(ratios) => Choice::TopK {
                k: ratio(ratios).ok_or_else(other_model)?.ceil_of(num_tokens),
                impact_weight: constants.topk_impact_weight,
            },
            Prune::Forward(ratios) => {
                let k = ratio(ratios).ok_or_else(other_model)?.floor_of(num_tokens);
                Choice::Forward { k: k.min(self.kept[layer].len()) }
            }
            Prune::Dense => return Err(dense()),
            Prune::Concrete if thresholds.len() != num_layers => return Err(other_model()),
            Prune::Concrete => Choice::Concrete {
                thresholds,
                impact_weight: constants.concrete_impact_weight,
                temperature: constants.concrete_temperature,
                hard_threshold: constants.concrete_hard_threshold,
            },
        };
        Ok(why(&Found { kept: &self.kept, token_scores, attention_maps }, &choice, layer, position))
    }
}
