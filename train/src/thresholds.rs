//! Thresholds of `concrete` for networks that do not change any more: the one value at which a given share of tokens is kept.

use burn::tensor::Tensor;

use crate::batch::Batch;
use crate::concrete::{back_track, maps};
use crate::error::{Error, Result};
use crate::network::{Mode, Network, Wanted};
use crate::parameters::{Leaves, Place};
use crate::rows::Rows;

/// What ApproxNet says of some samples.
pub struct Calibration {
    batches: Vec<(Vec<Tensor<3>>, Rows)>,
}

/// Halvings of the interval. More would end at the very score of a token, which rounding then keeps or not.
const NUM_HALVINGS: usize = 12;

impl Calibration {
    /// Runs ApproxNet once over each batch.
    pub fn new(approx: &Network, leaves: &Leaves, batches: Vec<Batch>) -> Self {
        let maps = |batch: Batch| {
            let pass = approx.run(leaves, &batch, &Mode::Dense, Wanted { scores: true, ..Wanted::default() });
            (maps(&pass.scores, &batch.rows), batch.rows)
        };
        Self { batches: batches.into_iter().map(maps).collect() }
    }

    /// Of one batch, whose maps are known.
    pub fn of_batch(maps: &[Tensor<3>], rows: &Rows) -> Self {
        let maps = maps.iter().map(|map| map.clone().without_autodiff()).collect();
        Self { batches: vec![(maps, rows.clone())] }
    }

    /// Mean over samples and l = 0 … L of |K_l| / T.
    fn retention(&self, approx: &Network, p_logit: f64, place: &Place) -> Result<f64> {
        let (num_anchors, constants) = (approx.config.num_anchors, &approx.config.prune);
        let (mut sum, mut num_samples) = (0.0, 0);
        for (maps, rows) in &self.batches {
            let p_logits = vec![place.tensor(&[p_logit], [1]); maps.len()];
            let found = back_track(maps, rows, &p_logits, num_anchors, constants);
            let num_sets = found.masks.len() as f64;
            for mask in found.masks {
                let kept = mask.greater_equal_scalar(constants.concrete_hard_threshold);
                let shares = rows.real.clone().zeros_like().mask_fill(kept, 1.0) * rows.weights.clone();
                let share = shares.sum().try_into_scalar::<f64>().map_err(|error| Error::Device(error.to_string()))?;
                sum += share / num_sets;
            }
            num_samples += rows.num_samples();
        }
        Ok(sum / num_samples.max(1) as f64)
    }

    /// The `p_logit` at which this share of the tokens is kept, and the share that it gives.
    pub fn p_logit(&self, approx: &Network, keep: f64, place: &Place) -> Result<(f32, f64)> {
        let (mut low, mut high) = (-16.0, 16.0);
        for _ in 0..NUM_HALVINGS {
            let middle = (low + high) / 2.0;
            match self.retention(approx, middle, place)? < keep {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok((high as f32, self.retention(approx, f64::from(high as f32), place)?))
    }
}
