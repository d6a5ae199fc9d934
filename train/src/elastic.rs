//! Elastic training: each step computes a packed, pruned pass at a ratio of its own, and pulls its answers to the dense parent's.
//!
//! One set of weights then serves every ratio. A step costs what it computes: at a ratio of 0.2 about a fifth.

use burn::tensor::Tensor;
use sttabt::training::TopK;
use sttabt::{Ratio, Task};

use crate::batch::Batch;
use crate::concrete::{back_track, maps};
use crate::error::{Error, Result};
use crate::loss::{Loss, relative_squares, teacher_kl};
use crate::network::{Mode, Network, Wanted};
use crate::parameters::{Leaves, Place};
use crate::random::Random;
use crate::rows::{Gates, Kept};
use crate::thresholds::Calibration;

/// Which tokens a step keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// This share of each sample's tokens in each layer, and those of the layers above.
    TopK(Ratio),
    /// Those above a threshold, at which this share of the batch is kept.
    Concrete(Ratio),
}

impl Keep {
    /// `topk` or `concrete`.
    pub fn rule(self) -> &'static str {
        match self {
            Self::TopK(_) => "topk",
            Self::Concrete(_) => "concrete",
        }
    }

    /// The share.
    pub fn ratio(self) -> Ratio {
        match self {
            Self::TopK(ratio) | Self::Concrete(ratio) => ratio,
        }
    }
}

/// What a step keeps is drawn from this.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The smallest ratio of `topk`. What the layers keep together is more, and `concrete` counts that: its smallest is half as much again.
    pub smallest: f64,
    /// The share of steps that are dense.
    pub dense_share: f64,
}

impl Draw {
    /// Of a step: one of the rules, with a log-uniform ratio; or `None` for a dense one.
    pub fn keep(&self, random: &mut Random) -> Option<Keep> {
        let (is_dense, is_concrete, at) = (random.unit() < self.dense_share, random.unit() < 0.5, random.unit());
        if is_dense {
            return None;
        }
        match is_concrete {
            true => Ratio::new((1.5 * self.smallest).powf(at)).map(Keep::Concrete),
            false => Ratio::new(self.smallest.powf(at)).map(Keep::TopK),
        }
    }
}

/// The softness of the answers that are compared.
const TEMPERATURE: f64 = 2.0;

/// K_0 … K_L of the samples of a batch, as a rule finds them from ApproxNet's attention.
pub fn kept_tokens(
    approx: &Network,
    leaves: &Leaves,
    batch: &Batch,
    keep: Keep,
    place: &Place,
) -> Result<Vec<Vec<Vec<u32>>>> {
    match keep {
        Keep::TopK(ratio) => by_top_k(approx, leaves, batch, ratio),
        Keep::Concrete(share) => by_thresholds(approx, leaves, batch, share, place),
    }
}

fn by_thresholds(
    approx: &Network,
    leaves: &Leaves,
    batch: &Batch,
    share: Ratio,
    place: &Place,
) -> Result<Vec<Vec<Vec<u32>>>> {
    let (rows, width) = (&batch.rows, batch.rows.width);
    let pass = approx.run(leaves, batch, &Mode::Dense, Wanted { scores: true, ..Wanted::default() });
    let maps = maps(&pass.scores, rows);
    let (p_logit, _) = Calibration::of_batch(&maps, rows).p_logit(approx, share.get(), place)?;
    let p_logits = vec![place.tensor(&[f64::from(p_logit)], [1]); maps.len()];
    let (num_anchors, constants) = (approx.config.num_anchors, &approx.config.prune);
    let of_layer = |mask: Tensor<2>| {
        let values = mask.try_into_vec_as::<f32>().map_err(|error| Error::Device(error.to_string()))?;
        let of_sample = |(row, &length): (&[f32], &usize)| {
            let is_kept: Vec<bool> =
                row[..length].iter().map(|&mask| mask >= constants.concrete_hard_threshold).collect();
            positions(&is_kept)
        };
        Ok(values.chunks_exact(width).zip(&rows.lengths).map(of_sample).collect())
    };
    back_track(&maps, rows, &p_logits, num_anchors, constants).masks.into_iter().map(of_layer).collect()
}

fn by_top_k(approx: &Network, leaves: &Leaves, batch: &Batch, ratio: Ratio) -> Result<Vec<Vec<Vec<u32>>>> {
    let maps = mean_maps(approx, leaves, batch)?;
    let ratios = vec![ratio; approx.num_layers()];
    let mut kept = vec![Vec::new(); ratios.len() + 1];
    for (maps, &length) in maps.iter().zip(&batch.rows.lengths) {
        let of_sample = top_k(approx, maps, length, &ratios);
        kept.iter_mut().zip(of_sample).for_each(|(kept, of_layer)| kept.push(of_layer));
    }
    Ok(kept)
}

/// ApproxNet's attention, the mean over heads: of each sample and layer T rows of T.
pub fn mean_maps(approx: &Network, leaves: &Leaves, batch: &Batch) -> Result<Vec<Vec<Vec<f32>>>> {
    let pass = approx.run(leaves, batch, &Mode::Dense, Wanted { probs: true, ..Wanted::default() });
    let width = batch.rows.width;
    let mut of_samples = vec![Vec::new(); batch.rows.num_samples()];
    for probs in pass.probs {
        let maps = mean_of_heads(probs)?;
        let maps = maps.chunks_exact((width * width).max(1)).zip(&batch.rows.lengths);
        for ((map, &length), of_sample) in maps.zip(&mut of_samples) {
            // Rows as long as the sample.
            of_sample.push(map.chunks_exact(width).take(length).flat_map(|row| &row[..length]).copied().collect());
        }
    }
    Ok(of_samples)
}

/// K_0 … K_L of a sample by `topk`, with a ratio for each layer.
pub fn top_k(approx: &Network, maps: &[Vec<f32>], num_tokens: usize, ratios: &[Ratio]) -> Vec<Vec<u32>> {
    let mut recursion = TopK::new(num_tokens, approx.config.num_anchors);
    let mut kept = vec![positions(recursion.is_kept())];
    for (map, ratio) in maps.iter().zip(ratios).rev() {
        recursion.step(map, ratio.ceil_of(num_tokens), approx.config.prune.topk_impact_weight);
        kept.push(positions(recursion.is_kept()));
    }
    kept.reverse();
    kept
}

fn mean_of_heads(probs: Tensor<4>) -> Result<Vec<f32>> {
    probs.mean_dim(1).try_into_vec_as::<f32>().map_err(|error| Error::Device(error.to_string()))
}

fn positions(is_kept: &[bool]) -> Vec<u32> {
    (0..).zip(is_kept).filter(|(_, kept)| **kept).map(|(position, _)| position).collect()
}

/// The part of a batch that a pruned pass computes.
pub struct Pruned {
    batch: Option<Batch>,
    kept: Vec<Kept>,
    /// Mean over samples and l = 0 … L of |K_l| / T.
    pub retention: f64,
}

impl Pruned {
    /// By a frozen ApproxNet; its leaves are constants.
    pub fn new(approx: &Network, leaves: &Leaves, batch: &Batch, keep: Keep, place: &Place) -> Result<Self> {
        let kept = kept_tokens(approx, leaves, batch, keep, place)?;
        let share = |of_layer: &Vec<Vec<u32>>| -> f64 {
            of_layer.iter().zip(&batch.rows.lengths).map(|(kept, &length)| kept.len() as f64 / length as f64).sum()
        };
        let retention = kept.iter().map(share).sum::<f64>() / (kept.len() * batch.rows.num_samples()) as f64;
        let layers = kept.windows(2).map(|pair| Kept::new(&pair[0], &pair[1], place)).collect();
        // Tokens that are not even in K_0 are not embedded.
        let is_all = kept[0].iter().zip(&batch.rows.lengths).all(|(kept, &length)| kept.len() == length);
        let batch = if is_all { None } else { Some(batch.only(&kept[0], place)) };
        Ok(Self { batch, kept: layers, retention })
    }

    /// The tokens of K_0, all of the batch's if they are all kept.
    pub fn batch<'a>(&'a self, all: &'a Batch) -> &'a Batch {
        self.batch.as_ref().unwrap_or(all)
    }

    /// How a network computes it.
    pub fn mode(&self) -> Mode<'_> {
        Mode::Pruned(&self.kept)
    }
}

/// How a network computes a batch.
pub enum Way<'a> {
    /// All tokens.
    Dense,
    /// Some tokens.
    Pruned(&'a Pruned),
    /// All tokens, through gates that are open or closed and have a derivative.
    Gated(&'a Gates),
}

/// What a network answers: logits, or a vector of length 1.
pub fn answers(network: &Network, leaves: &Leaves, batch: &Batch, way: &Way<'_>) -> Tensor<2> {
    let (input, mode) = match way {
        Way::Dense => (batch, Mode::Dense),
        Way::Pruned(pruned) => (pruned.batch(batch), pruned.mode()),
        Way::Gated(gates) => (batch, Mode::Gated(gates)),
    };
    let mut pass = network.run(leaves, input, &mode, Wanted::default());
    let last = pass.hidden_states.pop();
    let last = last.unwrap_or_else(|| network.place().zeros([0, 0]));
    let rows = match way {
        Way::Pruned(pruned) => pruned.kept.last().map_or(&input.rows, |kept| &kept.rows),
        _ => &input.rows,
    };
    if network.config.task == Task::Embedding {
        network.embedding(leaves, &last, rows)
    } else {
        network.logits(leaves, &last, rows)
    }
}

/// The distance of the answers from the parent's: divergence of labels, else squares.
pub fn loss(network: &Network, leaves: &Leaves, batch: &Batch, way: &Way<'_>, parent: &Tensor<2>) -> Loss {
    let answers = answers(network, leaves, batch, way);
    let distance = match network.config.task {
        Task::Classification => teacher_kl(&answers, parent, TEMPERATURE).mul_scalar(TEMPERATURE * TEMPERATURE),
        Task::MultiLabel => (answers - parent.clone()).square().mean(),
        Task::Regression => relative_squares(&answers, parent),
        // The vectors have length 1: this is 2 − 2 cos.
        Task::Embedding => (answers - parent.clone()).square().sum_dim(1).mean(),
    };
    Loss::sum(network.place(), vec![("answers", distance)])
}
