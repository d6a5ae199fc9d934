//! What a model is, in one piece: for programs that show it.

use serde::Serialize;

use super::{InputConfig, Model, Task};
use crate::pruning::{Need, Prune, RULES, Rule};

/// What a model is and can do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInfo {
    /// `text` or `image`
    pub input: &'static str,
    /// What it gives: `classification`, `multi_label`, `regression` or `embedding`
    pub task: Task,
    /// Their names, by index; none for embeddings.
    pub labels: Vec<String>,
    /// L
    pub num_layers: usize,
    /// Attention heads of a layer.
    pub num_heads: usize,
    /// h
    pub hidden_size: usize,
    /// See [`Model::has_approx_net`].
    pub has_approx_net: bool,
    /// See [`Model::has_thresholds`].
    pub has_thresholds: bool,
    /// See [`Model::default_prune`].
    pub default_prune: Prune,
    /// All rules, with what this model lacks for them.
    pub rules: Vec<RuleInfo>,
    /// See [`Model::num_parameters`].
    pub num_parameters: u64,
    /// See [`Model::approx_num_parameters`].
    pub approx_num_parameters: Option<u64>,
    /// See [`Model::weights_dtype`].
    pub weights_dtype: &'static str,
    /// Height and width of the images.
    pub image_size: Option<[usize; 2]>,
    /// Rows and columns of patches.
    pub grid: Option<[usize; 2]>,
    /// Tokens of an image before its patches.
    pub num_prefix_tokens: Option<usize>,
    /// See [`Model::max_tokens`].
    pub max_tokens: usize,
}

/// A rule beside a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// The rule.
    #[serde(flatten)]
    pub rule: &'static Rule,
    /// What the model lacks for it, unless the rule's numbers bring it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Need>,
}

impl Model {
    /// What it is and can do.
    pub fn info(&self) -> ModelInfo {
        let (config, facts) = (self.config(), self.facts());
        let num_prefix_tokens = match &config.input {
            InputConfig::Text(_) => None,
            InputConfig::Image(image) => Some(image.num_prefix_tokens),
        };
        let (input, image_size, grid) = match &config.input {
            InputConfig::Text(_) => ("text", None, None),
            InputConfig::Image(image) => ("image", Some(image.image_size), Some(image.grid())),
        };
        ModelInfo {
            input,
            task: config.task,
            labels: config.labels.clone(),
            num_layers: config.num_hidden_layers,
            num_heads: config.num_attention_heads,
            hidden_size: config.hidden_size,
            has_approx_net: self.has_approx_net(),
            has_thresholds: self.has_thresholds(),
            default_prune: self.default_prune(),
            rules: RULES.iter().map(|rule| RuleInfo { rule, lacks: facts.lacks_for(rule) }).collect(),
            num_parameters: self.num_parameters(),
            approx_num_parameters: self.approx_num_parameters(),
            weights_dtype: self.weights_dtype(),
            image_size,
            grid,
            num_prefix_tokens,
            max_tokens: self.max_tokens(),
        }
    }
}
