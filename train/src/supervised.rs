//! `sttabt-train finetune`, `concrete` and `ltp`: trainings with labels, or for `concrete` with the dense model's answers.

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
use crate::ltp;
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
    /// Train the thresholds of Learned Token Pruning, soft then hard: the baseline
    Ltp(LtpArgs),
}

/// Arguments of `ltp`.
#[derive(Args)]
pub struct LtpArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate
    #[arg(long, default_value_t = 2e-5, value_name = "RATE")]
    pub rate: f64,
    /// Of the tokens that stay: the larger, the fewer
    #[arg(long, default_value_t = 0.1, value_name = "FACTOR")]
    pub lambda: f64,
    /// How sharply the soft stage separates tokens
    #[arg(long, default_value_t = 5e-4, value_name = "NUMBER")]
    pub temperature: f64,
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
/// And of Learned Token Pruning, with frozen thresholds.
const LTP_HARD_SHARE: f64 = 0.5;

/// Runs a training.
pub fn run(command: &Supervised, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    let (run, rate, concrete, ltp_args) = match command {
        Supervised::Finetune(args) => (&args.run, args.rate, None, None),
        Supervised::Concrete(args) => (&args.run, args.rate, Some(args), None),
        Supervised::Ltp(args) => (&args.run, args.rate, None, Some(args)),
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
    let (part, first): (_, &dyn Fn(usize) -> f64) = match (concrete, ltp_args) {
        (Some(_), _) => (Part::PLogit, &|_| p_logit),
        _ => (Part::LtpThreshold, &|layer| 0.01 * layer as f64 / main.num_layers() as f64),
    };
    let has_thresholds = concrete.is_some() || ltp_args.is_some();
    let num_thresholds = if has_thresholds { main.num_layers() } else { 0 };
    let mut add = |layer: usize| {
        let name = name_of(&model, Which::Main, part, layer).unwrap_or_default();
        parameters.add(name, &[1], &[first(layer) as f32], false)
    };
    let thresholds: Vec<Id> = (0..num_thresholds).map(&mut add).collect();
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
        ltp: ltp_args.map(|args| (ltp::Settings { temperature: args.temperature, lambda: args.lambda }, is_hard)),
    };
    let steps = run.steps.unwrap_or(DEFAULT_STEPS);
    let hard_share = match (concrete, ltp_args) {
        (Some(_), _) => HARD_SHARE,
        (_, Some(_)) => LTP_HARD_SHARE,
        _ => 0.0,
    };
    let hard = (steps as f64 * hard_share) as usize;
    let plan = vec![steps - hard, hard];
    let others = json!({"rate": rate, "target": concrete.map(|args| args.target_ratio), "lambda": concrete.map(|args| args.lambda_mask),
        "ltp": ltp_args.map(|args| [args.lambda, args.temperature])});
    let name = match command {
        Supervised::Finetune(_) => "finetune",
        Supervised::Concrete(_) => "concrete",
        Supervised::Ltp(_) => "ltp",
    };
    let settings = run.settings(name, others);
    let progress =
        Progress { settings, plan: plan.clone(), stage: 0, step: 0, optimizer_steps: 0, best: None, log_bytes: 0 };
    let decay = match command {
        Supervised::Finetune(_) => 1e-2,
        Supervised::Concrete(_) => 5e-2,
        Supervised::Ltp(_) => 0.0,
    };
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
    let stage = |name, is_hard: bool| Stage {
        name,
        recipe,
        trained: match (ltp_args, is_hard) {
            (Some(_), false) => trained.iter().chain(&thresholds).copied().collect(),
            _ => trained.clone(),
        },
        samples: &split.train,
        lengths: &lengths,
        batch_size: run.batch.min(split.train.len()),
    };
    let names = if has_thresholds { ["soft", "hard"] } else { ["finetune", "none"] };
    let mut trainer = Trainer::new(parameters, progress, run)?;
    crate::stop::on_interrupt(&trainer.is_stopped);
    trainer.stage(0, &stage(names[0], false), &mut learner(false))?;
    if hard > 0 {
        trainer.stage(1, &stage(names[1], true), &mut learner(true))?;
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
        p_logits: concrete.map(|_| learned.clone()),
        // Below 0 a threshold means what 0 means.
        ltp_thresholds: ltp_args.map(|_| learned.iter().map(|threshold| threshold.max(0.0)).collect()),
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
    /// Of `ltp`, and whether tokens are removed.
    ltp: Option<(ltp::Settings, bool)>,
}

impl Learner<'_> {
    fn of(&self, leaves: &Leaves, samples: &[usize], random: Option<&mut Random>) -> Result<(Loss, serde_json::Value)> {
        let Shared { main, approx, parent, parent_leaves, place, .. } = self.shared;
        let batch = self.shared.batch(samples, random)?;
        let labels: Option<Vec<Label>> = self.labels.map(|labels| samples.iter().map(|&at| labels[at]).collect());
        let some_labels = labels.as_deref().unwrap_or_default();
        if let Some((settings, false)) = &self.ltp {
            let outcome = ltp::soft_loss(main, self.thresholds, leaves, &batch, some_labels, settings);
            return Ok((outcome.loss, json!({})));
        }
        let Some(settings) = &self.settings else {
            let value = |&id: &Id| leaves.tensors[id].clone().without_autodiff().try_into_scalar::<f64>();
            let thresholds: std::result::Result<Vec<f64>, _> = self.thresholds.iter().map(value).collect();
            let thresholds = thresholds.map_err(|error| Error::Device(error.to_string()))?;
            let logits = match thresholds.is_empty() {
                true => answers(main, leaves, &batch, None),
                false => ltp::hard_logits(main, &thresholds, leaves, &batch),
            };
            let task = task_loss(main.config.task, &logits, some_labels, place);
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
