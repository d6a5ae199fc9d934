//! The stages of `compress`: what their steps compute.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};
use serde_json::json;
use sttabt::training::Tokens;
use sttabt::{Model, Ratio};

use crate::batch::{Batch, Padding};
use crate::concrete::maps;
use crate::data::Sample;
use crate::distill::{self, Teacher, Transfers};
use crate::elastic::{Draw, Keep, Pruned, Way, answers, loss};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::measure::ParentAnswers;
use crate::network::{Mode, Network, Wanted};
use crate::parameters::{Leaves, Parameters, Place};
use crate::random::Random;
use crate::select::{concrete_gates, top_k_gates};
use crate::thresholds::Calibration;
use crate::trainer::Learns;

/// What all stages look at.
pub struct Shared<'a> {
    /// The source.
    pub model: &'a Model,
    /// All of the data.
    pub samples: &'a [Sample],
    /// Of each text; empty for pictures.
    pub tokens: &'a [Tokens],
    /// The parent's answers to each text; absent for pictures, whose answers depend on the crop.
    pub answers: Option<RefCell<ParentAnswers>>,
    /// Places of the samples that choose the best state.
    pub validation: &'a [usize],
    /// The dense source.
    pub parent: &'a Network,
    /// Its values.
    pub parent_leaves: Leaves,
    /// The network that learns to be pruned.
    pub main: &'a Network,
    /// The one that finds the tokens.
    pub approx: &'a Network,
    /// Where tensors are.
    pub place: Place,
    /// Samples of a batch.
    pub batch_size: usize,
}

impl Shared<'_> {
    /// Some samples as tensors; with random numbers pictures are cropped and flipped.
    pub fn batch(&self, samples: &[usize], mut random: Option<&mut Random>) -> Result<Batch> {
        let mut read = Vec::new();
        if self.tokens.is_empty() {
            for &at in samples {
                read.push(self.samples[at].tokens(self.model, at, random.as_deref_mut())?);
            }
        }
        let tokens: Vec<&Tokens> = match self.tokens.is_empty() {
            true => read.iter().collect(),
            false => samples.iter().map(|&at| &self.tokens[at]).collect(),
        };
        Ok(Batch::new(&tokens, &self.main.config.input, Padding::None, &self.place))
    }

    /// The dense parent's answers.
    fn parent_answers(&self, samples: &[usize], batch: &Batch) -> Result<Tensor<2>> {
        let Some(known) = &self.answers else {
            return Ok(answers(self.parent, &self.parent_leaves, batch, &Way::Dense));
        };
        let values = known.borrow_mut().of(self.samples, samples)?;
        let width = values.len() / samples.len().max(1);
        let data = TensorData::new(values, [samples.len(), width]);
        Ok(Tensor::from_data(data, (&self.place.device, self.place.dtype)))
    }

    /// The mean of a number over the batches of the validation samples.
    pub fn mean(&self, mut of_batch: impl FnMut(&[usize], &Batch) -> Result<f64>) -> Result<f64> {
        let mut sum = 0.0;
        for samples in self.validation.chunks(self.batch_size) {
            let batch = self.batch(samples, None)?;
            sum += of_batch(samples, &batch)? * samples.len() as f64;
        }
        Ok(sum / self.validation.len().max(1) as f64)
    }
}

/// The value of a loss.
pub fn number(tensor: Tensor<1>) -> Result<f64> {
    tensor.try_into_scalar::<f64>().map_err(|error| Error::Device(error.to_string()))
}

/// ApproxNet learns from the dense parent.
pub struct Distil<'a> {
    shared: &'a Shared<'a>,
    transfers: &'a Transfers,
}

impl<'a> Distil<'a> {
    /// Of a run.
    pub fn new(shared: &'a Shared<'a>, transfers: &'a Transfers) -> Self {
        Self { shared, transfers }
    }

    fn loss_of(&self, leaves: &Leaves, batch: &Batch) -> Loss {
        let Shared { parent, parent_leaves, approx, .. } = self.shared;
        let teacher = Teacher::new(parent, parent_leaves, batch);
        distill::loss(&teacher, approx, self.transfers, leaves, batch)
    }
}

impl Learns for Distil<'_> {
    fn loss(
        &mut self,
        _parameters: &Parameters,
        leaves: &Leaves,
        samples: &[usize],
        random: &mut Random,
    ) -> Result<(Loss, serde_json::Value)> {
        let batch = self.shared.batch(samples, Some(random))?;
        Ok((self.loss_of(leaves, &batch), json!({})))
    }

    /// Attention alone finds the tokens.
    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        let leaves = parameters.constants();
        self.shared.mean(|_, batch| {
            let loss = self.loss_of(&leaves, batch);
            let attention = loss.parts.iter().find(|(name, _)| *name == "attention");
            number(attention.map_or(loss.total.clone(), |(_, attention)| attention.clone()))
        })
    }
}

/// The model learns to answer as its dense parent from some of the tokens.
pub struct Elastic<'a> {
    shared: &'a Shared<'a>,
    draw: Draw,
}

/// The ratio of both rules that chooses the best state, beside a dense pass.
const VALIDATED: f64 = 0.3;

impl<'a> Elastic<'a> {
    /// Of a run.
    pub fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, draw: Draw { smallest: 0.1, dense_share: 0.25 } }
    }

    fn pruned(&self, leaves: &Leaves, batch: &Batch, keep: Option<Keep>) -> Result<Option<Pruned>> {
        let pruned = |keep| Pruned::new(self.shared.approx, leaves, batch, keep, &self.shared.place);
        keep.map(pruned).transpose()
    }
}

impl Learns for Elastic<'_> {
    fn loss(
        &mut self,
        _parameters: &Parameters,
        leaves: &Leaves,
        samples: &[usize],
        random: &mut Random,
    ) -> Result<(Loss, serde_json::Value)> {
        let keep = self.draw.keep(random);
        let batch = self.shared.batch(samples, Some(random))?;
        let parent = self.shared.parent_answers(samples, &batch)?;
        let pruned = self.pruned(leaves, &batch, keep)?;
        let retention = pruned.as_ref().map_or(1.0, |pruned| pruned.retention);
        let line = line(keep, retention);
        Ok((loss(self.shared.main, leaves, &batch, &way(&pruned), &parent), line))
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        let leaves = parameters.constants();
        self.shared.mean(|samples, batch| {
            let parent = self.shared.parent_answers(samples, batch)?;
            let mut sum = 0.0;
            let ratio = Ratio::new(VALIDATED);
            let ways = [None, ratio.map(Keep::TopK), ratio.map(Keep::Concrete)];
            for keep in ways {
                let pruned = self.pruned(&leaves, batch, keep)?;
                sum += number(loss(self.shared.main, &leaves, batch, &way(&pruned), &parent).total)?;
            }
            Ok(sum / ways.len() as f64)
        })
    }
}

fn line(keep: Option<Keep>, retention: f64) -> serde_json::Value {
    let (rule, ratio) = keep.map_or(("dense", 1.0), |keep| (keep.rule(), keep.ratio().get()));
    json!({"rule": rule, "ratio": ratio, "retention": retention})
}

fn way(pruned: &Option<Pruned>) -> Way<'_> {
    pruned.as_ref().map_or(Way::Dense, Way::Pruned)
}

/// ApproxNet learns from the answers which tokens they need, and the model to answer from those.
pub struct Select<'a>(Elastic<'a>);

/// Of the mean retention in the loss: layers that keep the same tokens keep fewer together.
const RETENTION: f64 = 0.4;

impl<'a> Select<'a> {
    /// Of a run.
    pub fn new(shared: &'a Shared<'a>) -> Self {
        Self(Elastic { shared, draw: Draw { smallest: 0.1, dense_share: 0.2 } })
    }
}

impl Learns for Select<'_> {
    fn loss(
        &mut self,
        _parameters: &Parameters,
        leaves: &Leaves,
        samples: &[usize],
        random: &mut Random,
    ) -> Result<(Loss, serde_json::Value)> {
        let Shared { main, approx, place, .. } = self.0.shared;
        let keep = self.0.draw.keep(random);
        let batch = self.0.shared.batch(samples, Some(random))?;
        let parent = self.0.shared.parent_answers(samples, &batch)?;
        let (rows, is_concrete) = (&batch.rows, matches!(keep, Some(Keep::Concrete(_))));
        let wanted = Wanted { probs: !is_concrete, scores: is_concrete, ..Wanted::default() };
        let pass = approx.run(leaves, &batch, &Mode::Dense, wanted);
        let gates = match keep {
            Some(Keep::Concrete(share)) => {
                let maps = maps(&pass.scores, rows);
                let (p_logit, _) = Calibration::of_batch(&maps, rows).p_logit(approx, share.get(), place)?;
                concrete_gates(approx, &maps, rows, p_logit, place)?
            }
            // All gates are open in a dense step, so that every parameter has a derivative.
            _ => top_k_gates(approx, &pass.probs, rows, keep.map(Keep::ratio), place)?,
        };
        let mut loss = loss(main, leaves, &batch, &Way::Gated(&gates), &parent);
        let open = gates.values.iter().map(|gate| gate.clone().sum_dim(1)).reduce(|sum, of_layer| sum + of_layer);
        let open = open.unwrap_or_else(|| place.zeros([1, 1]));
        let retention = (open / rows.counts(place)).mean().div_scalar(gates.values.len() as f64);
        let line = line(keep, number(retention.clone().without_autodiff())?);
        loss.add("retention", retention.mul_scalar(RETENTION));
        Ok((loss, line))
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        self.0.validate(parameters)
    }
}
