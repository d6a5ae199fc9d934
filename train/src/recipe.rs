//! Which parameters learn how fast, and which fade.

use crate::optimizer::Group;
use crate::parameters::{Parameter, Parameters};

/// Rates and decay of a training.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Of all parameters but thresholds.
    pub rate: f64,
    /// Of those that decay.
    pub decay: f64,
    /// The rate of ApproxNet, in units of the others'.
    pub approx_factor: f64,
    /// The rate of thresholds, in units of the others'.
    pub threshold_factor: f64,
    /// The largest norm of the gradient.
    pub clip: Option<f64>,
    /// Whether all vectors are spared; else biases, layer norms and thresholds.
    pub decays_matrices_only: bool,
    /// Whether `cls_token` learns.
    pub trains_cls_token: bool,
}

impl Recipe {
    /// The group of each parameter.
    pub fn groups(&self, parameters: &Parameters) -> Vec<Group> {
        parameters.list.iter().map(|parameter| self.group(parameter)).collect()
    }

    fn group(&self, parameter: &Parameter) -> Group {
        let name = parameter.name.to_lowercase();
        let is_threshold = name.ends_with("p_logit");
        if name.contains("cls_token") && !self.trains_cls_token {
            return Group { rate_factor: 0.0, decay: 0.0 };
        }
        let is_spared = match self.decays_matrices_only {
            true => parameter.shape.len() == 1,
            // DistilBERT's norms are called `layer_norm`.
            false => name.contains("bias") || name.replace('_', "").contains("layernorm"),
        };
        Group {
            rate_factor: match is_threshold {
                true => self.threshold_factor,
                false if name.starts_with("approx/") => self.approx_factor,
                false => 1.0,
            },
            decay: if is_spared || is_threshold { 0.0 } else { self.decay },
        }
    }
}
