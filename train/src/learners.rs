//! The stages of `compress`: what their steps compute.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};
use serde_json::json;
use sttabt::training::Tokens;
use sttabt::{Model, Ratio};

use crate::batch::{Batch, Padding};
use crate::data::Sample;
use crate::distill::{self, Teacher, Transfers};
use crate::elastic::{Draw, Pruned, Way, answers, loss};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::measure::ParentAnswers;
use crate::network::{Mode, Network, Wanted};
use crate::parameters::{Leaves, Parameters, Place};
use crate::random::Random;
use crate::select::gates;
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

/// The ratio that chooses the best state, beside a dense pass.
const VALIDATED: f64 = 0.3;

impl<'a> Elastic<'a> {
    /// Of a run.
    pub fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, draw: Draw { smallest: 0.1, dense_share: 0.25 } }
    }

    fn pruned(&self, leaves: &Leaves, batch: &Batch, ratio: Option<Ratio>) -> Result<Option<Pruned>> {
        let pruned = |ratio| Pruned::new(self.shared.approx, leaves, batch, ratio, &self.shared.place);
        ratio.map(pruned).transpose()
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
        let ratio = self.draw.ratio(random);
        let batch = self.shared.batch(samples, Some(random))?;
        let parent = self.shared.parent_answers(samples, &batch)?;
        let pruned = self.pruned(leaves, &batch, ratio)?;
        let retention = pruned.as_ref().map_or(1.0, |pruned| pruned.retention);
        let line = json!({"ratio": ratio.map_or(1.0, Ratio::get), "retention": retention});
        Ok((loss(self.shared.main, leaves, &batch, &way(&pruned), &parent), line))
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        let leaves = parameters.constants();
        self.shared.mean(|samples, batch| {
            let parent = self.shared.parent_answers(samples, batch)?;
            let mut sum = 0.0;
            for ratio in [None, Ratio::new(VALIDATED)] {
                let pruned = self.pruned(&leaves, batch, ratio)?;
                sum += number(loss(self.shared.main, &leaves, batch, &way(&pruned), &parent).total)?;
            }
            Ok(sum / 2.0)
        })
    }
}

fn way(pruned: &Option<Pruned>) -> Way<'_> {
    pruned.as_ref().map_or(Way::Dense, Way::Pruned)
}

/// ApproxNet learns from the answers which tokens they need, and the model to answer from those.
pub struct Select<'a>(Elastic<'a>);

/// Of the mean retention in the loss: layers that keep the same tokens keep fewer together.
const RETENTION: f64 = 0.1;

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
        // All gates are open where none is drawn, so that every parameter has a derivative.
        let ratio = self.0.draw.ratio(random).map_or(1.0, Ratio::get);
        let batch = self.0.shared.batch(samples, Some(random))?;
        let parent = self.0.shared.parent_answers(samples, &batch)?;
        let pass = approx.run(leaves, &batch, &Mode::Dense, Wanted { probs: true, ..Wanted::default() });
        let gates = gates(approx, &pass.probs, &batch.rows, ratio, place)?;
        let mut loss = loss(main, leaves, &batch, &Way::Gated(&gates), &parent);
        let open = gates.iter().map(|gate| gate.clone().sum_dim(1)).reduce(|sum, of_layer| sum + of_layer);
        let open = open.unwrap_or_else(|| place.zeros([1, 1]));
        let retention = (open / batch.rows.counts(place)).mean().div_scalar(gates.len() as f64);
        let line = json!({"ratio": ratio, "retention": number(retention.clone().without_autodiff())?});
        loss.add("retention", retention.mul_scalar(RETENTION));
        Ok((loss, line))
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        self.0.validate(parameters)
    }
}
