//! From a classification back to the reason for one of its choices.

use super::request::Classification;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::pruning::{Found, Plan, Why, concrete_thresholds, why};

impl Classification {
    /// Why `position` survived `layer`, or did not, in this run of `model`, which asked for both [`Outputs`](crate::Outputs).
    /// Layers count from 0; `forward` and `ltp` choose nothing in the last one.
    ///
    /// # Errors
    /// [`Error::Rule`] when nothing was chosen (`dense`) or outputs are missing. It also says that a layer or
    /// position is not there, or that the run had another model.
    pub fn why(&self, model: &Model, layer: usize, position: usize) -> Result<Why> {
        let error = |reason: String| Error::Rule { rule: self.prune.to_string(), reason };
        if self.prune.is_dense() {
            return Err(error("all tokens are kept, nothing is chosen".to_owned()));
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
        let other_model = || error("the run of another model".to_owned());
        let facts = model.facts();
        if self.kept.len() != facts.main.num_hidden_layers + 1 {
            return Err(other_model());
        }
        let plan = Plan::of(&self.prune, &facts, &[num_tokens]).map_err(|_| other_model())?;
        let thresholds = concrete_thresholds(facts.p_logits.unwrap_or_default());
        let found = Found { kept: &self.kept, token_scores, attention_maps };
        why(&found, &plan, &thresholds, layer, position).ok_or_else(other_model)
    }
}
