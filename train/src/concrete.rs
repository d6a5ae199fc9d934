//! Concrete training: soft masks that ApproxNet and one threshold per layer make, and the loss that thins them out.
//!
//! ```text
//! U[i, j] = mean over heads of Φ((S[i, j] − μ[i]) / (σ[i] + EPS))
//! u[j]    = Σ_i M[i] · U[i, j] · (0.9 + 0.1 · c[i]) / (Σ M + EPS), divided by (its maximum + EPS)
//! c       = 0.01 + 0.99 u;   M = max(sigmoid((logit(p_l) + logit(c)) / 0.1), M)
//! ```

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use sttabt::PruneConfig;

use crate::batch::Batch;
use crate::loss::{Label, Loss, task_loss, teacher_kl};
use crate::network::{EPS, Mode, Network, Wanted};
use crate::ops::{logit, maximum};
use crate::parameters::{Id, Leaves};
use crate::rows::Rows;

/// The recursion's results.
pub struct BackTracked {
    /// M_0 … M_L, `[N, R]`
    pub masks: Vec<Tensor<2>>,
    /// c_0 … c_{L−1}, `[N, R]`
    pub scores: Vec<Tensor<2>>,
}

/// U of each layer, `[N, R, R]`, from the scores of ApproxNet's.
pub fn maps(scores: &[Tensor<4>], rows: &Rows) -> Vec<Tensor<3>> {
    let (num_samples, width) = (rows.num_samples(), rows.width);
    let counts = rows.real.clone().sum_dim(1).add_scalar(EPS).reshape([num_samples, 1, 1, 1]);
    let keys = rows.real.clone().reshape([num_samples, 1, 1, width]);
    let of_layer = |scores: &Tensor<4>| {
        let mean = (scores.clone() * keys.clone()).sum_dim(3) / counts.clone();
        let centred = scores.clone() - mean;
        let variance = (centred.clone().square() * keys.clone()).sum_dim(3) / counts.clone();
        // The root of 0 has no derivative: a text of one token would make all gradients NaN.
        let deviation = variance.clamp_min(TINY).sqrt().add_scalar(EPS);
        let phi =
            (centred / deviation).mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
        phi.mean_dim(1).reshape([num_samples, width, width])
    };
    scores.iter().map(of_layer).collect()
}

/// Where the recursion stands: M and c of the layer above, `[N, R]`.
pub struct Above {
    /// The soft mask.
    pub mask: Tensor<2>,
    /// The scores.
    pub c: Tensor<2>,
}

impl Above {
    /// Above the last layer: the anchors alone.
    pub fn anchors(rows: &Rows, num_anchors: usize) -> Self {
        let mask = rows.anchors(num_anchors);
        Self { c: mask.clone(), mask }
    }

    /// One layer down; gives how far the scores are above the threshold: logit(p) + logit(c).
    pub fn step(&mut self, map: &Tensor<3>, rows: &Rows, p_logit: &Tensor<1>, constants: &PruneConfig) -> Tensor<2> {
        let (num_samples, width) = (rows.num_samples(), rows.width);
        let weight = f64::from(constants.concrete_impact_weight);
        let impact = self.c.clone().mul_scalar(weight).add_scalar(1.0 - weight) * self.mask.clone();
        let given = impact.reshape([num_samples, 1, width]).matmul(map.clone()).reshape([num_samples, width]);
        let u = given / self.mask.clone().sum_dim(1).add_scalar(EPS);
        let u = u.clone() / u.max_dim(1).add_scalar(EPS);
        self.c = u.mul_scalar(0.99).add_scalar(0.01) * rows.real.clone();
        let above = logit(self.c.clone()) + logit(sigmoid(p_logit.clone())).reshape([1, 1]);
        let gate = sigmoid(above.clone().div_scalar(f64::from(constants.concrete_temperature)));
        self.mask = maximum(self.mask.clone(), gate);
        above
    }
}

/// Goes back through the maps of ApproxNet's layers.
pub fn back_track(
    maps: &[Tensor<3>],
    rows: &Rows,
    p_logits: &[Tensor<1>],
    num_anchors: usize,
    constants: &PruneConfig,
) -> BackTracked {
    let mut above = Above::anchors(rows, num_anchors);
    let mut found = BackTracked { masks: vec![above.mask.clone()], scores: Vec::new() };
    for (map, p_logit) in maps.iter().zip(p_logits).rev() {
        above.step(map, rows, p_logit, constants);
        let Above { mask, c } = &above;
        found.masks.push(mask.clone());
        found.scores.push(c.clone());
    }
    found.masks.reverse();
    found.scores.reverse();
    found
}

/// A variance below which a row is constant.
const TINY: f64 = 1e-24;

/// What concrete training weighs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// p_logit₀, which all thresholds begin at and are held near.
    pub p_logit: f64,
    /// Of the squared distances from it.
    pub lambda_p: f64,
    /// Of the squared distance of the mean retention from sigmoid(p_logit₀).
    pub lambda_mask: f64,
    /// Of the divergence from the teacher's answers.
    pub teacher_factor: f64,
    /// Whether the forward pass uses thresholded masks.
    pub is_hard: bool,
}

/// The networks and thresholds that learn together.
pub struct Concrete<'a> {
    /// Pruned by the masks.
    pub main: &'a Network,
    /// Makes them.
    pub approx: &'a Network,
    /// One for each layer.
    pub p_logits: &'a [Id],
}

/// What a batch gave.
pub struct Outcome {
    /// What to minimise.
    pub loss: Loss,
    /// Mean over the samples of Σ_l Σ_j M_l / (L · T), l from 1.
    pub mean_retention: Tensor<1>,
    /// `[N, labels]`
    pub logits: Tensor<2>,
    /// Masks and scores.
    pub found: BackTracked,
}

impl Concrete<'_> {
    /// The loss of one batch; `teacher` are the dense model's logits.
    pub fn loss(
        &self,
        leaves: &Leaves,
        batch: &Batch,
        labels: Option<&[Label]>,
        teacher: Option<&Tensor<2>>,
        settings: &Settings,
    ) -> Outcome {
        let Self { main, approx, p_logits } = self;
        let place = main.place();
        let wanted = Wanted { scores: true, ..Wanted::default() };
        let pass = approx.run(leaves, batch, &Mode::Dense, wanted);
        let p_logits: Vec<Tensor<1>> = p_logits.iter().map(|&id| leaves.vector(id)).collect();
        let (num_anchors, constants) = (main.config.num_anchors, &main.config.prune);
        let found = back_track(&maps(&pass.scores, &batch.rows), &batch.rows, &p_logits, num_anchors, constants);
        let threshold = constants.concrete_hard_threshold;
        let hard = |mask: &Tensor<2>| {
            let kept = mask.clone().without_autodiff().greater_equal_scalar(threshold);
            place.zeros(mask.dims()).mask_fill(kept, 1.0)
        };
        let used = if settings.is_hard { found.masks.iter().map(hard).collect() } else { found.masks.clone() };
        let pass = main.run(leaves, batch, &Mode::Masked(&used), Wanted::default());
        let logits = main.logits(leaves, &pass.hidden_states[0], &batch.rows);
        let counts = batch.rows.counts(place);
        let sums = found.masks[1..].iter().map(|mask| mask.clone().sum_dim(1)).reduce(|sum, of_layer| sum + of_layer);
        let sums = sums.unwrap_or_else(|| counts.clone().zeros_like());
        let mean_retention = (sums / counts).mean().div_scalar(p_logits.len() as f64);
        let distances = p_logits.into_iter().map(|p_logit| p_logit.sub_scalar(settings.p_logit).square());
        let distance = distances.reduce(|sum, of_layer| sum + of_layer).unwrap_or_else(|| place.zeros([1]));
        let target = 1.0 / (1.0 + (-settings.p_logit).exp());
        let from_target = mean_retention.clone().sub_scalar(target).square();
        let mut parts = Vec::new();
        if let Some(labels) = labels {
            parts.push(("task", task_loss(main.config.task, &logits, labels, place)));
        }
        parts.push(("p_regulariser", distance.mul_scalar(settings.lambda_p)));
        parts.push(("mask_regulariser", from_target.mul_scalar(settings.lambda_mask)));
        let mut loss = Loss::sum(place, parts);
        if let (Some(teacher), true) = (teacher, settings.teacher_factor > 0.0) {
            let divergence = teacher_kl(&logits, teacher, 1.0);
            loss.total = loss.total.clone() + divergence.clone().mul_scalar(settings.teacher_factor);
            loss.parts.push(("teacher_kl", divergence));
        }
        Outcome { loss, mean_retention, logits, found }
    }
}
