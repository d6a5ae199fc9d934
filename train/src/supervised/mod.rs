//! `sttabt-train finetune`, `concrete` and `ltp`: trainings with labels, or for `concrete` with the dense model's answers.

mod args;

use burn::tensor::{DType, Device};
use serde_json::json;
use sttabt::training::{Part, Tokens, Which, name_of, values};
use sttabt::{Model, ModelFiles};

use crate::batch::Batch;
use crate::checkpoint::Progress;
use crate::concrete::{Concrete, Settings};
use crate::data::{Data, Split};
use crate::elastic::{Way, answers};
use crate::error::{Error, Result};
use crate::finish::Finished;
use crate::learners::{Shared, number};
use crate::loss::{Label, Loss, task_loss};
use crate::ltp;
use crate::network::Network;
use crate::parameters::{Id, Leaves, Parameters, Place};
use crate::random::Random;
use crate::trainer::{Learns, Stage, Trainer};

pub use args::{CONCRETE_RATE, ConcreteArgs, FinetuneArgs, LtpArgs, RATE, Supervised};

impl Supervised {
    /// What the model must have.
    fn check_parts(&self, model: &Model) -> Result<()> {
        match self {
            Self::Concrete(_) if !model.has_approx_net() => {
                let reason = "no ApproxNet in it: make one with `sttabt-train distill`";
                Err(Error::content(&self.run().model, reason))
            }
            _ => Ok(()),
        }
    }

    /// One for each layer, if any are trained.
    fn add_thresholds(&self, model: &Model, parameters: &mut Parameters) -> Vec<Id> {
        let num_layers = model.config().num_hidden_layers;
        let (part, first): (_, &dyn Fn(usize) -> f64) = match self {
            Self::Finetune(_) => return Vec::new(),
            Self::Concrete(args) => (Part::PLogit, &|_| args.p_logit()),
            Self::Ltp(_) => (Part::LtpThreshold, &|layer| 0.01 * layer as f64 / num_layers as f64),
        };
        let add = |layer| {
            let name = name_of(model, Which::Main, part, layer).unwrap_or_default();
            parameters.add(name, &[1], &[first(layer) as f32], false)
        };
        (0..num_layers).map(add).collect()
    }

    /// Which parameters learn in a stage.
    fn trained(&self, main: &Network, approx: Option<&Network>, thresholds: &[Id], is_hard: bool) -> Vec<Id> {
        let mut trained = main.ids.clone();
        match (self, approx) {
            (Self::Concrete(_), Some(approx)) => {
                let idle = approx.ids_after_last_map();
                trained.extend(approx.ids.iter().filter(|id| !idle.contains(id)).chain(thresholds));
            }
            (Self::Ltp(_), _) if !is_hard => trained.extend(thresholds),
            _ => {}
        }
        trained
    }
}
/// Runs a training.
pub fn run(command: &Supervised, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    let run = command.run();
    command.check()?;
    run.begin()?;
    let model = Model::from_bytes(ModelFiles::from_dir(&run.model)?)?;
    let main_values = values(&model, Which::Main)?;
    let main_values = main_values.ok_or_else(|| Error::content(&run.model, "no network in it"))?;
    let data = Data::read(&run.data, &model, command.labels())?;
    data.notes.iter().for_each(|note| print(&format!("{note}\n")));
    command.check_parts(&model)?;
    let approx_values = values(&model, Which::ApproxNet)?;
    let split = Split::new(&data, run.seed);
    let place = Place::new(device.clone(), DType::F32);
    let mut parameters = Parameters::new(place.clone());
    let config = crate::files::read_json(&run.model.join("config.json"))?;
    let pad_token = main_values.is_text().then(|| config["pad_token_id"].as_u64().unwrap_or(0) as usize);
    let main = Network::new(&main_values, "", pad_token, &mut parameters);
    let approx = approx_values.as_ref().map(|values| Network::new(values, "approx/", pad_token, &mut parameters));
    let thresholds = command.add_thresholds(&model, &mut parameters);
    let mut parent_parameters = Parameters::new(place.clone());
    let parent = Network::new(&main_values, "", None, &mut parent_parameters);
    let is_picture = run.data.images.is_some();
    let tokens: Vec<Tokens> = match is_picture {
        true => Vec::new(),
        false => (0..).zip(&data.samples).map(|(at, one)| one.tokens(&model, at, None)).collect::<Result<_>>()?,
    };
    let lengths: Vec<usize> = match is_picture {
        true => vec![1; data.samples.len()],
        false => tokens.iter().map(|tokens| tokens.len()).collect(),
    };
    let shared = Shared {
        model: &model,
        samples: &data.samples,
        tokens: &tokens,
        answers: None,
        validation: &split.validation,
        parent: &parent,
        parent_leaves: parent_parameters.constants(),
        main: &main,
        approx: approx.as_ref().unwrap_or(&main),
        place: place.clone(),
        batch_size: run.batch,
    };
    let learner = |is_hard: bool| {
        let (concrete, ltp) = match command {
            Supervised::Finetune(_) => (None, None),
            Supervised::Concrete(args) => (Some(args.settings(is_picture, data.labels.is_some())), None),
            Supervised::Ltp(args) => {
                (None, Some((ltp::Settings { temperature: args.temperature, lambda: args.lambda }, is_hard)))
            }
        };
        let settings = concrete.map(|settings| Settings { is_hard, ..settings });
        Learner { shared: &shared, labels: data.labels.as_deref(), thresholds: &thresholds, settings, ltp }
    };
    let stages = command.stages();
    let progress = Progress {
        settings: command.settings(),
        plan: stages.iter().map(|(_, steps)| *steps).collect(),
        stage: 0,
        step: 0,
        optimizer_steps: 0,
        best: None,
        log_bytes: 0,
    };
    let mut trainer = Trainer::new(parameters, progress, run)?;
    crate::stop::on_interrupt()?;
    for (at, (name, steps)) in stages.into_iter().enumerate() {
        let is_hard = at == 1;
        let stage = Stage {
            name,
            recipe: command.recipe(),
            trained: command.trained(&main, approx.as_ref(), &thresholds, is_hard),
            samples: &split.train,
            lengths: &lengths,
            batch_size: run.batch.min(split.train.len()),
        };
        if steps > 0 {
            trainer.stage(at, &stage, &mut learner(is_hard))?;
        }
    }
    trainer.finish()?;
    let mut notes = data.notes.clone();
    if trainer.is_stopped() {
        notes.push("ended early: the best state so far".to_owned());
    }
    let value = |&id: &Id| trainer.parameters.list[id].values().map(|values| values[0]);
    let learned: Vec<f32> = thresholds.iter().map(value).collect::<Result<_>>()?;
    let finished = Finished {
        run,
        model: &model,
        data: &data,
        split: &split,
        parameters: &trainer.parameters,
        main: &main,
        approx: approx.as_ref().zip(approx_values.as_ref()),
        p_logits: matches!(command, Supervised::Concrete(_)).then(|| learned.clone()),
        funnel: None,
        // Below 0 a threshold means what 0 means.
        ltp_thresholds: matches!(command, Supervised::Ltp(_))
            .then(|| learned.iter().map(|threshold| threshold.max(0.0)).collect()),
        stages: trainer.progress.done(stages.map(|(name, _)| name)),
        notes,
    };
    finished.write(print)?;
    if !trainer.is_stopped() {
        let checkpoints = run.checkpoints();
        std::fs::remove_dir_all(checkpoints.folder()).map_err(Error::file("remove", checkpoints.folder()))?;
    }
    Ok(())
}

struct Learner<'a> {
    shared: &'a Shared<'a>,
    labels: Option<&'a [Label]>,
    thresholds: &'a [Id],
    /// Of `concrete`.
    settings: Option<Settings>,
    /// Of `ltp`, and whether tokens are removed.
    ltp: Option<(ltp::Settings, bool)>,
}

impl Learner<'_> {
    fn of(&self, leaves: &Leaves, samples: &[usize], batch: &Batch) -> Result<(Loss, serde_json::Value)> {
        let Shared { main, approx, parent, parent_leaves, place, .. } = self.shared;
        let labels: Option<Vec<Label>> = self.labels.map(|labels| samples.iter().map(|&at| labels[at]).collect());
        let some_labels = labels.as_deref().unwrap_or_default();
        if let Some((settings, false)) = &self.ltp {
            let outcome = ltp::soft_loss(main, self.thresholds, leaves, batch, some_labels, settings);
            return Ok((outcome.loss, json!({})));
        }
        let Some(settings) = &self.settings else {
            let value = |&id: &Id| leaves.tensors[id].clone().without_autodiff().try_into_scalar::<f64>();
            let thresholds: std::result::Result<Vec<f64>, _> = self.thresholds.iter().map(value).collect();
            let thresholds = thresholds.map_err(|error| Error::Device(error.to_string()))?;
            let logits = match thresholds.is_empty() {
                true => answers(main, leaves, batch, &Way::Dense),
                false => ltp::hard_logits(main, &thresholds, leaves, batch),
            };
            let task = task_loss(main.config.task, &logits, some_labels, place);
            return Ok((Loss::sum(place, vec![("task", task)]), json!({})));
        };
        let teacher = (settings.teacher_factor > 0.0).then(|| answers(parent, parent_leaves, batch, &Way::Dense));
        let concrete = Concrete { main, approx, p_logits: self.thresholds };
        let outcome = concrete.loss(leaves, batch, labels.as_deref(), teacher.as_ref(), settings);
        Ok((outcome.loss, json!({"retention": number(outcome.mean_retention)?})))
    }
}

impl Learns for Learner<'_> {
    fn loss(
        &mut self,
        _parameters: &Parameters,
        leaves: &Leaves,
        samples: &[usize],
        random: &mut Random,
    ) -> Result<(Loss, serde_json::Value)> {
        let batch = self.shared.batch(samples, Some(random))?;
        self.of(leaves, samples, &batch)
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        let leaves = parameters.constants();
        self.shared.mean(|samples, batch| number(self.of(&leaves, samples, batch)?.0.total))
    }
}
