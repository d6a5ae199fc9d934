//! Learned Token Pruning. Soft: a layer's output is scaled by how far a token's received attention lies above a threshold. Hard: tokens
//! below it are removed, as the engine's rule `ltp` does.
//!
//! ```text
//! s_l[j] = mean over heads and rows i of A[i, j];   m_l[j] = sigmoid((s_l[j] − θ_l) / τ)
//! loss   = task + λ · Σ_l mean over samples and tokens of m_l
//! ```

use std::cell::RefCell;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use crate::batch::Batch;
use crate::loss::{Label, Loss, task_loss};
use crate::network::{Mode, Network, Wanted};
use crate::parameters::{Id, Leaves};

/// τ and λ.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// τ
    pub temperature: f64,
    /// λ
    pub lambda: f64,
}

/// What a batch gave.
pub struct Outcome {
    /// What to minimise.
    pub loss: Loss,
    /// `[N, labels]`
    pub logits: Tensor<2>,
    /// m_0 … m_{L−1}, `[N, R]`
    pub masks: Vec<Tensor<2>>,
}

/// The loss of one batch.
pub fn soft_loss(
    network: &Network,
    thresholds: &[Id],
    leaves: &Leaves,
    batch: &Batch,
    labels: &[Label],
    settings: &Settings,
) -> Outcome {
    let masks = RefCell::new(Vec::new());
    let (num_samples, width) = (batch.rows.num_samples(), batch.rows.width);
    let rows = batch.rows.weights.clone().reshape([num_samples, 1, width]);
    let scale = |layer: usize, probs: &Tensor<4>| {
        let mean = probs.clone().mean_dim(1).reshape([num_samples, width, width]);
        let received = rows.clone().matmul(mean).reshape([num_samples, width]);
        let threshold = leaves.vector(thresholds[layer]).reshape([1, 1]);
        let mask = sigmoid((received - threshold).div_scalar(settings.temperature));
        masks.borrow_mut().push(mask.clone());
        mask
    };
    let pass = network.run(leaves, batch, &Mode::Scaled(&scale), Wanted::default());
    let logits = network.logits(leaves, &pass.hidden_states[0], &batch.rows);
    let masks = masks.into_inner();
    let mean = |mask: &Tensor<2>| (mask.clone() * batch.rows.weights.clone()).sum().div_scalar(num_samples as f64);
    let mask_sum = masks.iter().map(mean).reduce(|sum, of_layer| sum + of_layer);
    let mask_sum = mask_sum.unwrap_or_else(|| network.place().zeros([1]));
    let task = task_loss(network.config.task, &logits, labels, network.place());
    let total = task.clone() + mask_sum.clone().mul_scalar(settings.lambda);
    let loss = Loss { total, parts: vec![("task", task), ("mask_sum", mask_sum)] };
    Outcome { loss, logits, masks }
}

/// The logits of a hard pass: after layer l the tokens with s_l > θ_l stay, and the anchors. Thresholds get no gradient.
pub fn hard_logits(network: &Network, thresholds: &[f64], leaves: &Leaves, batch: &Batch) -> Tensor<2> {
    let (num_samples, width) = (batch.rows.num_samples(), batch.rows.width);
    let counts = batch.rows.counts(network.place());
    let num_anchors = network.config.num_anchors.min(width);
    let stays = |layer: usize, probs: &Tensor<4>, present: &Tensor<2>| {
        let mean = probs.clone().without_autodiff().mean_dim(1).reshape([num_samples, width, width]);
        let rows = present.clone().reshape([num_samples, 1, width]);
        let received = rows.matmul(mean).reshape([num_samples, width]) / counts.clone();
        let above = received.greater_scalar(thresholds[layer]);
        let stays = present.clone().zeros_like().mask_fill(above, 1.0) * present.clone();
        stays.slice_fill([0..num_samples, 0..num_anchors], 1.0)
    };
    let pass = network.run(leaves, batch, &Mode::Removing(&stays), Wanted::default());
    network.logits(leaves, &pass.hidden_states[0], &batch.rows)
}
