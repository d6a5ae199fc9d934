//! Measuring what a rule and the dense model cost on an engine's device.

use super::{Classification, Engine, Outputs, prepare};
use crate::error::Result;
use crate::models::{Input, InputConfig, TextTokens, Tokens};
use crate::pruning::{Cost, Decision, Policy, Prune};
use crate::tensor::row_stride;

/// Tokens of the small and of the large run of a text model, as far as it takes them.
const TOKENS: [usize; 2] = [16, 128];
/// Images of the small and of the large run.
const IMAGES: [usize; 2] = [1, 3];
/// The fastest of so many rounds counts, after one that makes pipelines and memory.
const ROUNDS: usize = 3;

impl Engine {
    /// Runs `prune` and the dense model in turn on made-up inputs of two sizes. That costs some 30 times a sentence,
    /// or an image. `now_ms` is the caller's clock.
    ///
    /// # Errors
    /// As of [`Engine::classify`].
    pub async fn measure_policy(&mut self, prune: &Prune, now_ms: &dyn Fn() -> f64) -> Result<Policy> {
        let mut costs = [[Cost { dense_flops: 0, ms: f64::INFINITY }; 2]; 2];
        // Where the rule cannot run, it never pays.
        let can_prune = self.made_up(1).iter().all(|tokens| self.can_prune(tokens));
        let rules = [&Prune::Dense, prune].into_iter().take(if can_prune { 2 } else { 1 });
        for round in 0..=ROUNDS {
            for (rule, costs) in rules.clone().zip(&mut costs) {
                for (size, cost) in costs.iter_mut().enumerate() {
                    let tokens = self.made_up(size);
                    let start = now_ms();
                    let results = self.classify_tokens(tokens, rule, &Outputs::default()).await?;
                    let ms = now_ms() - start;
                    cost.dense_flops = results.iter().map(|result| result.flops.dense).sum();
                    if round > 0 {
                        cost.ms = cost.ms.min(ms);
                    }
                }
            }
        }
        let [dense, pruned] = costs;
        Ok(Policy::new(prune.clone(), dense, pruned))
    }

    /// The same as [`Engine::classify`], with the rule that the policy chooses for the batch. The same input may be
    /// pruned in one batch and not in another.
    ///
    /// # Errors
    /// The same as of [`Engine::classify`].
    pub async fn classify_by(
        &mut self,
        policy: &Policy,
        inputs: &[Input<'_>],
        outputs: &Outputs,
    ) -> Result<(Decision, Vec<Classification>)> {
        self.check_head(false, outputs)?;
        self.run_by(policy, inputs, outputs).await
    }

    /// The same as [`Engine::embed`], with the rule that the policy chooses for the batch.
    ///
    /// # Errors
    /// The same as of [`Engine::embed`].
    pub async fn embed_by(
        &mut self,
        policy: &Policy,
        inputs: &[Input<'_>],
        outputs: &Outputs,
    ) -> Result<(Decision, Vec<Classification>)> {
        self.check_head(true, outputs)?;
        self.run_by(policy, inputs, outputs).await
    }

    async fn run_by(
        &mut self,
        policy: &Policy,
        inputs: &[Input<'_>],
        outputs: &Outputs,
    ) -> Result<(Decision, Vec<Classification>)> {
        let tokens = prepare(&self.model, inputs, 0)?;
        let size = self.model.config().encoder_size();
        let mut decision = policy.decide(tokens.iter().map(|tokens| size.dense(tokens.len())).sum());
        if !tokens.iter().all(|tokens| self.can_prune(tokens)) {
            (decision.prune, decision.pruned_ms) = (Prune::Dense, f64::INFINITY);
        }
        let results = self.classify_tokens(tokens, &decision.prune, outputs).await?;
        Ok((decision, results))
    }

    /// Inputs of the small (0) or the large (1) run, of numbers that no kernel can take a short cut with.
    fn made_up(&self, size: usize) -> Vec<Tokens> {
        match &self.model.config().input {
            InputConfig::Text(text) => {
                let num_tokens = TOKENS[size].min(text.max_position_embeddings);
                let input_ids = (0..num_tokens).map(|place| (place * 7919 % text.vocab_size) as u32).collect();
                vec![Tokens::Text(TextTokens {
                    input_ids,
                    token_type_ids: vec![0; num_tokens],
                    tokens: vec![String::new(); num_tokens],
                    truncated: false,
                })]
            }
            InputConfig::Image(image) => {
                let num_tokens = image.num_tokens();
                let stride = row_stride(image.patch_values());
                let mut rows: Vec<f32> =
                    (0..num_tokens * stride).map(|at| (at % 511 * 7919 % 511) as f32 / 255.0 - 1.0).collect();
                // `[CLS]` has no patch, and what is beyond a patch is padding.
                rows[..stride].fill(0.0);
                rows.chunks_mut(stride).for_each(|row| row[image.patch_values()..].fill(0.0));
                vec![Tokens::Patches { rows, num_tokens, picture: None }; IMAGES[size]]
            }
        }
    }
}
