//! `sttabt-train finetune` and `concrete`: trainings with labels, or for `concrete` with the dense model's answers.

use burn::tensor::{DType, Device};
use clap::{Args, Subcommand};
use serde_json::json;
use sttabt::training::{Part, Tokens, Which, name_of, values};
use sttabt::{Model, ModelFiles, Task};

use crate::checkpoint::Progress;
use crate::concrete::{Concrete, Settings};
use crate::data::{Data, Split};
use crate::elastic::answers;
use crate::error::{Error, Result};
use crate::finish::Finished;
use crate::learners::{Shared, number};
use crate::loss::{Label, Loss, task_loss};
use crate::network::Network;
use crate::parameters::{Id, Leaves, Parameters, Place};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::run_args::RunArgs;
use crate::trainer::{Learns, Stage, Trainer};

/// Which training.
#[derive(Subcommand)]
pub enum Supervised {
    /// Fine-tune a model with labels, dense
    Finetune(FinetuneArgs),
    /// Train soft masks and a threshold for each layer, the paper's concrete masking
    Concrete(ConcreteArgs),
}

/// Arguments of `finetune`.
#[derive(Args)]
pub struct FinetuneArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate
    #[arg(long, default_value_t = 2e-5, value_name = "RATE")]
    pub rate: f64,
}

/// Arguments of `concrete`.
#[derive(Args)]
pub struct ConcreteArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate; thresholds learn ten times as fast
    #[arg(long, default_value_t = 1e-5, value_name = "RATE")]
    pub rate: f64,
    /// sigmoid(p_logit) at the start, which the mean retention is held near
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    pub target_ratio: f64,
    /// Of the mean retention's squared distance from it [default: 0.001 for texts, 100 for pictures]
    #[arg(long, value_name = "FACTOR")]
    pub lambda_mask: Option<f64>,
    /// Of the thresholds' squared distances from their start
    #[arg(long, default_value_t = 1e-3, value_name = "FACTOR")]
    pub lambda_p: f64,
}

const DEFAULT_STEPS: usize = 3000;
/// The last part of a concrete training uses thresholded masks.
const HARD_SHARE: f64 = 0.2;

/// Runs a training.
pub fn run(command: &Supervised, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    let (run, rate, concrete) = match command {
        Supervised::Finetune(args) => (&args.run, args.rate, None),
        Supervised::Concrete(args) => (&args.run, args.rate, Some(args)),
    };
    run.check()?;
    if run.budget.is_some() {
        return Err(Error::Usage("--budget: here the length is given by --steps".to_owned()));
    }
    run.begin()?;
    let model = Model::from_bytes(ModelFiles::from_dir(&run.model)?)?;
    let main_values = values(&model, Which::Main)?;
    let main_values = main_values.ok_or_else(|| Error::content(&run.model, "no network in it"))?;
    let data = Data::read(&run.data, &model)?;
    data.notes.iter().for_each(|note| print(&format!("{note}\n")));
    if concrete.is_none() && (data.labels.is_none() || model.config().task == Task::MultiLabel) {
        let reason =
            "no labels that the model knows, and `finetune` needs them: a column `label` with one label for each row";
        return Err(Error::content(run.data.path(), reason));
    }
    let approx_values = values(&model, Which::ApproxNet)?;
    if concrete.is_some() && approx_values.is_none() {
        return Err(Error::content(&run.model, "no ApproxNet in it: make one with `sttabt-train distill`"));
    }
    let split = Split::new(data.samples.len(), run.seed);
    let place = Place::new(device.clone(), DType::F32);
    let mut parameters = Parameters::new(place.clone());
    let config = crate::files::read_json(&run.model.join("config.json"))?;
    let pad_token = main_values.is_text().then(|| config["pad_token_id"].as_u64().unwrap_or(0) as usize);
    let main = Network::new(&main_values, "", pad_token, &mut parameters);
    let approx = approx_values.as_ref().map(|values| Network::new(values, "approx/", pad_token, &mut parameters));
    let p_logit = concrete.map_or(0.0, |args| (args.target_ratio / (1.0 - args.target_ratio)).ln());
    let thresholds: Vec<Id> = match concrete {
        Some(_) => (0..main.num_layers())
            .map(|layer| {
                let name = name_of(&model, Which::Main, Part::PLogit, layer).unwrap_or_default();
                parameters.add(name, &[1], &[p_logit as f32], false)
            })
            .collect(),
        None => Vec::new(),
    };
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
        answers: &[],
        validation: &split.validation,
        parent: &parent,
        parent_leaves: parent_parameters.constants(),
        main: &main,
        approx: approx.as_ref().unwrap_or(&main),
        place: place.clone(),
        batch_size: run.batch,
    };
    let settings = concrete.map(|args| Settings {
        p_logit,
        lambda_p: args.lambda_p,
        lambda_mask: args.lambda_mask.unwrap_or(if is_picture { 100.0 } else { 1e-3 }),
        teacher_factor: if data.labels.is_none() { 1.0 } else { 0.0 },
        is_hard: false,
    });
    let learner = |is_hard: bool| Learner {
        shared: &shared,
        labels: data.labels.as_deref(),
        thresholds: &thresholds,
        settings: settings.map(|settings| Settings { is_hard, ..settings }),
    };
    let steps = run.steps.unwrap_or(DEFAULT_STEPS);
    let hard = if concrete.is_some() { (steps as f64 * HARD_SHARE) as usize } else { 0 };
    let plan = vec![steps - hard, hard];
    let others = json!({"rate": rate, "target": concrete.map(|args| args.target_ratio), "lambda": concrete.map(|args| args.lambda_mask)});
    let name = if concrete.is_some() { "concrete" } else { "finetune" };
    let settings = run.settings(name, others);
    let progress =
        Progress { settings, plan: plan.clone(), stage: 0, step: 0, optimizer_steps: 0, best: None, log_bytes: 0 };
    let decay = if concrete.is_some() { 5e-2 } else { 1e-2 };
    let recipe = Recipe {
        rate,
        decay,
        threshold_factor: 10.0,
        clip: Some(0.5),
        decays_matrices_only: false,
        trains_cls_token: true,
    };
    let mut trained = main.ids.clone();
    if let (Some(approx), true) = (&approx, concrete.is_some()) {
        let idle = approx.ids_after_last_map();
        trained.extend(approx.ids.iter().filter(|id| !idle.contains(id)).chain(&thresholds));
    }
    let stage = |name| Stage {
        name,
        recipe,
        trained: trained.clone(),
        samples: &split.train,
        lengths: &lengths,
        batch_size: run.batch.min(split.train.len()),
    };
    let names = if concrete.is_some() { ["soft", "hard"] } else { ["finetune", "none"] };
    let mut trainer = Trainer::new(parameters, progress, run)?;
    crate::stop::on_interrupt(&trainer.is_stopped);
    trainer.stage(0, &stage(names[0]), &mut learner(false))?;
    if hard > 0 {
        trainer.stage(1, &stage(names[1]), &mut learner(true))?;
    }
    trainer.finish()?;
    let mut notes = data.notes.clone();
    if trainer.is_stopped() {
        notes.push("ended early: the best state so far".to_owned());
    }
    let value = |&id: &Id| trainer.parameters.list[id].values().map(|values| values[0]);
    let p_logits: Vec<f32> = thresholds.iter().map(value).collect::<Result<_>>()?;
    let finished = Finished {
        run,
        model: &model,
        data: &data,
        split: &split,
        parameters: &trainer.parameters,
        main: &main,
        approx: approx.as_ref().zip(approx_values.as_ref()),
        p_logits: concrete.map(|_| p_logits),
        ltp_thresholds: None,
        stages: names.map(str::to_owned).into_iter().zip(plan).filter(|(_, steps)| *steps > 0).collect(),
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
}

impl Learner<'_> {
    fn of(&self, leaves: &Leaves, samples: &[usize], random: Option<&mut Random>) -> Result<(Loss, serde_json::Value)> {
        let Shared { main, approx, parent, parent_leaves, place, .. } = self.shared;
        let batch = self.shared.batch(samples, random)?;
        let labels: Option<Vec<Label>> = self.labels.map(|labels| samples.iter().map(|&at| labels[at]).collect());
        let Some(settings) = &self.settings else {
            let logits = answers(main, leaves, &batch, None);
            let task = task_loss(main.config.task, &logits, labels.as_deref().unwrap_or_default(), place);
            return Ok((Loss::sum(place, vec![("task", task)]), json!({})));
        };
        let teacher = match settings.teacher_factor > 0.0 {
            true => Some(answers(parent, parent_leaves, &batch, None)),
            false => None,
        };
        let concrete = Concrete { main, approx, p_logits: self.thresholds };
        let outcome = concrete.loss(leaves, &batch, labels.as_deref(), teacher.as_ref(), settings);
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
        self.of(leaves, samples, Some(random))
    }

    fn validate(&mut self, parameters: &Parameters) -> Result<f64> {
        let leaves = parameters.constants();
        let mut sum = 0.0;
        for samples in self.shared.validation.chunks(self.shared.batch_size) {
            sum += number(self.of(&leaves, samples, None)?.0.total)? * samples.len() as f64;
        }
        Ok(sum / self.shared.validation.len().max(1) as f64)
    }
}
