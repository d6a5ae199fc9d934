//! `sttabt-train compress` and `distill`: from a model and some of its inputs to a folder that runs pruned, and a report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device};
use clap::Args;
use serde_json::json;
use sttabt::training::{NetworkValues, Tokens, Which, values};
use sttabt::{Model, ModelFiles, Prune, Task};

use crate::approx_net::smaller;
use crate::checkpoint::{Checkpoints, Progress};
use crate::data::{Data, DataArgs, Sample, Split};
use crate::distill::Transfers;
use crate::error::{Error, Result};
use crate::folder::{Format, Written, choose_default};
use crate::learners::{Distil, Elastic, Shared};
use crate::loss::Label;
use crate::measure::{Line, answers, engine, parent_answers};
use crate::network::Network;
use crate::parameters::{Parameters, Place};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::report::Report;
use crate::thresholds::Calibration;
use crate::trainer::{Learns, Stage, Trainer};

/// Arguments of `compress`.
#[derive(Args, Clone)]
pub struct CompressArgs {
    /// The folder of a fine-tuned model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// What it learns from
    #[command(flatten)]
    pub data: DataArgs,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How much narrower ApproxNet is
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub reduction: usize,
    /// End after about so many minutes
    #[arg(long, value_name = "MINUTES", conflicts_with = "steps")]
    pub budget: Option<f64>,
    /// Steps of all stages together [default: 3000]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// The share of tokens that `concrete` keeps
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    pub keep: f64,
    /// Points that the default rule may lose
    #[arg(long, default_value_t = 1.0, value_name = "POINTS")]
    pub max_loss: f64,
    /// Samples of a batch
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub batch: usize,
    /// The largest rate of the elastic stage
    #[arg(long, default_value_t = 2e-5, value_name = "RATE")]
    pub rate: f64,
    /// The largest rate of ApproxNet
    #[arg(long, default_value_t = 1e-3, value_name = "RATE")]
    pub approx_rate: f64,
    /// Of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Go on where a run with the same arguments was stopped
    #[arg(long)]
    pub resume: bool,
    /// Write weights as f32 instead of f16
    #[arg(long)]
    pub f32: bool,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    pub checkpoint_every: f64,
}

/// Which stages a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// ApproxNet alone.
    Distil,
    /// ApproxNet, then the model.
    All,
}

const DEFAULT_STEPS: usize = 3000;
/// The share of a budget's steps or time in which ApproxNet learns.
const DISTIL_SHARE: f64 = 0.4;
/// The share of a budget's time that is for all but steps: answers of the parent, thresholds, the report.
const OVERHEAD: f64 = 0.15;
/// Samples that find the thresholds.
const NUM_CALIBRATION: usize = 256;
/// Ratios of the report.
const RATIOS: [f64; 9] = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/// All networks of a run, whose values are in one list.
struct Networks {
    main: Network,
    approx: Network,
    approx_values: NetworkValues,
    transfers: Transfers,
}

/// Runs all stages.
pub fn run(args: &CompressArgs, stages: Stages, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    let start = Instant::now();
    check(args)?;
    let model = Model::from_bytes(ModelFiles::from_dir(&args.model)?)?;
    let missing = || Error::content(&args.model, "no network in it");
    let main_values = values(&model, Which::Main)?.ok_or_else(missing)?;
    let data = Data::read(&args.data, &model)?;
    data.notes.iter().for_each(|note| print(&format!("{note}\n")));
    let split = Split::new(data.samples.len(), args.seed);
    let place = Place::new(device.clone(), DType::F32);
    let mut random = Random::of(args.seed, 3);
    let mut parameters = Parameters::new(place.clone());
    let networks = networks(args, &model, &main_values, &mut parameters, &mut random)?;
    let mut parent_parameters = Parameters::new(place.clone());
    let mut parent = Network::new(&main_values, "", None, &mut parent_parameters);
    parent.pooling = model.pooling().map(|pooling| pooling.mode);
    print(&format!(
        "{} samples to learn from, {} to choose by, {} held back\n",
        split.train.len(),
        split.validation.len(),
        split.held_back.len()
    ));
    let is_augmented = args.data.images.is_some();
    let (tokens, lengths) = match is_augmented {
        // A picture is read, cropped and flipped at every step.
        true => (Vec::new(), vec![1; data.samples.len()]),
        false => {
            let tokens: Vec<Tokens> =
                (0..).zip(&data.samples).map(|(at, sample)| sample.tokens(&model, at, None)).collect::<Result<_>>()?;
            let lengths = tokens.iter().map(|tokens| tokens.len()).collect();
            (tokens, lengths)
        }
    };
    // A picture's answers depend on the crop; those of a text are asked for once.
    let answers = match is_augmented || stages == Stages::Distil {
        true => Vec::new(),
        false => unit_vectors(model.config().task, parent_answers(&model, &data.samples)?),
    };
    let shared = Shared {
        model: &model,
        samples: &data.samples,
        tokens: &tokens,
        answers: &answers,
        validation: &split.validation,
        parent: &parent,
        parent_leaves: parent_parameters.constants(),
        main: &networks.main,
        approx: &networks.approx,
        place: place.clone(),
        batch_size: args.batch,
    };
    let mut distil = Distil::new(&shared, &networks.transfers);
    let mut elastic = Elastic::new(&shared);
    let checkpoints = Checkpoints::new(args.out.join("checkpoint"));
    begin(args, &checkpoints)?;
    let stage = |name, recipe, trained| Stage {
        name,
        recipe,
        trained,
        samples: &split.train,
        lengths: &lengths,
        batch_size: args.batch.min(split.train.len()),
    };
    let (approx_ids, idle) = trained_by_distillation(&networks);
    let distil_stage = stage("distil", recipe(args.approx_rate), approx_ids);
    let elastic_stage = stage("elastic", recipe(args.rate), networks.main.ids.clone());
    let plan = if checkpoints.exist() {
        checkpoints.progress()?.plan
    } else {
        let learners: [(&Stage<'_>, &mut dyn Learns); 2] =
            [(&distil_stage, &mut distil), (&elastic_stage, &mut elastic)];
        plan(args, stages, &mut parameters, learners)?
    };
    let progress = Progress {
        settings: settings(args, stages),
        plan: plan.clone(),
        stage: 0,
        step: 0,
        optimizer_steps: 0,
        best: None,
        log_bytes: 0,
    };
    if checkpoints.exist() && checkpoints.progress()?.settings != progress.settings {
        let found = checkpoints.progress()?.settings;
        return Err(Error::Usage(format!("--resume: the run in {} was begun with {found}", args.out.display())));
    }
    let every = Duration::from_secs_f64(args.checkpoint_every.max(0.0));
    let log = args.out.join("train.jsonl");
    let mut trainer = Trainer::new(parameters, progress, args.seed, checkpoints.clone(), log, every)?;
    crate::stop::on_interrupt(&trainer.is_stopped);
    trainer.stage(0, &distil_stage, &mut distil)?;
    if stages == Stages::All {
        trainer.stage(1, &elastic_stage, &mut elastic)?;
    }
    trainer.finish()?;
    let mut notes = data.notes.clone();
    if !idle.is_empty() {
        let names: Vec<&str> = idle.iter().map(|&id| &*trainer.parameters.list[id].name).collect();
        notes.push(format!("not trained, because no loss depends on them: {}", names.join(", ")));
    }
    if trainer.is_stopped() {
        notes.push("ended early: the best state so far".to_owned());
    }
    let finished =
        Finished { args, model: &model, data: &data, split: &split, networks: &networks, plan: &plan, notes };
    finished.write(&trainer.parameters, &shared, print)?;
    if !trainer.is_stopped() {
        std::fs::remove_dir_all(checkpoints.folder()).map_err(Error::file("remove", checkpoints.folder()))?;
    }
    print(&format!("{:.1} minutes\n", start.elapsed().as_secs_f64() / 60.0));
    Ok(())
}

/// The loss of an embedder compares directions.
fn unit_vectors(task: Task, mut answers: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    if task == Task::Embedding {
        for answer in &mut answers {
            let length = answer.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            answer.iter_mut().for_each(|value| *value /= length);
        }
    }
    answers
}

fn check(args: &CompressArgs) -> Result<()> {
    let wrong = |what: String| Err(Error::Usage(what));
    if !(args.keep > 0.0 && args.keep <= 1.0) {
        return wrong(format!("--keep {}: expected more than 0 and at most 1", args.keep));
    }
    if args.batch == 0 || args.steps == Some(0) || args.budget.is_some_and(|minutes| minutes <= 0.0) {
        return wrong("--batch, --steps and --budget: expected more than 0".to_owned());
    }
    Ok(())
}

/// The folder is new, or a run in it goes on.
fn begin(args: &CompressArgs, checkpoints: &Checkpoints) -> Result<()> {
    let is_empty = match std::fs::read_dir(&args.out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => true,
    };
    let is_finished = args.out.join("report.json").exists();
    match (args.resume, checkpoints.exist(), is_empty) {
        (true, false, _) if is_finished => {
            return Err(Error::Usage(format!("--resume: the run in {} is finished", args.out.display())));
        }
        // A run that was killed before its first checkpoint begins anew.
        (true, ..) | (false, false, true) => {}
        (false, true, _) => {
            let out = args.out.display();
            return Err(Error::Usage(format!(
                "--out {out}: a run was stopped there: go on with --resume, or name a new folder"
            )));
        }
        (false, false, false) => {
            return Err(Error::Usage(format!("--out {}: not empty: name a new folder", args.out.display())));
        }
    }
    std::fs::create_dir_all(&args.out).map_err(Error::file("write", &args.out))
}

/// What must be the same for a run to go on.
fn settings(args: &CompressArgs, stages: Stages) -> serde_json::Value {
    json!({
        "stages": format!("{stages:?}"), "model": args.model, "data": args.data.path(), "reduction": args.reduction,
        "steps": args.steps, "budget": args.budget, "batch": args.batch, "rate": args.rate,
        "approx_rate": args.approx_rate, "seed": args.seed,
    })
}

fn recipe(rate: f64) -> Recipe {
    Recipe {
        rate,
        decay: 1e-4,
        threshold_factor: 1.0,
        clip: Some(0.5),
        decays_matrices_only: false,
        trains_cls_token: true,
    }
}

fn networks(
    args: &CompressArgs,
    model: &Model,
    main_values: &NetworkValues,
    parameters: &mut Parameters,
    random: &mut Random,
) -> Result<Networks> {
    // An ApproxNet that is there goes on learning.
    let approx_values = match values(model, Which::ApproxNet)? {
        Some(found) => found,
        None => smaller(main_values, args.reduction, random)?,
    };
    let config: serde_json::Value = crate::files::read_json(&args.model.join("config.json"))?;
    let pad_token = main_values.is_text().then(|| config["pad_token_id"].as_u64().unwrap_or(0) as usize);
    let mut main = Network::new(main_values, "", pad_token, parameters);
    main.pooling = model.pooling().map(|pooling| pooling.mode);
    let approx = Network::new(&approx_values, "approx/", pad_token, parameters);
    let sizes = [main.config.hidden_size, approx.config.hidden_size];
    let transfers = Transfers::random(parameters, main.num_layers(), sizes, random);
    let transfers = transfers.ok_or_else(|| Error::Failed("no transfers".to_owned()))?;
    Ok(Networks { main, approx, approx_values, transfers })
}

/// Those that distillation trains, and those that it cannot: nothing depends on them.
fn trained_by_distillation(networks: &Networks) -> (Vec<usize>, Vec<usize>) {
    let idle: BTreeSet<usize> = match networks.approx.config.task {
        Task::Embedding => networks.approx.ids_after_last_map().into_iter().collect(),
        _ => BTreeSet::new(),
    };
    let all = networks.approx.ids.iter().copied().chain(networks.transfers.ids());
    let trained = all.filter(|id| !idle.contains(id)).collect();
    (trained, idle.into_iter().collect())
}

/// Steps of each stage: so many, or as many as fit the time.
fn plan(
    args: &CompressArgs,
    stages: Stages,
    parameters: &mut Parameters,
    learners: [(&Stage<'_>, &mut dyn Learns); 2],
) -> Result<Vec<usize>> {
    let shares = match stages {
        Stages::Distil => [1.0, 0.0],
        Stages::All => [DISTIL_SHARE, 1.0 - DISTIL_SHARE],
    };
    let Some(minutes) = args.budget else {
        let steps = args.steps.unwrap_or(DEFAULT_STEPS) as f64;
        return Ok(shares.map(|share| (share * steps).ceil() as usize).to_vec());
    };
    let mut steps = Vec::new();
    for ((stage, learner), share) in learners.into_iter().zip(shares) {
        let seconds =
            if share > 0.0 { crate::trainer::step_seconds(stage, learner, parameters, args.seed)? } else { 1.0 };
        steps.push((minutes * 60.0 * (1.0 - OVERHEAD) * share / seconds) as usize);
    }
    Ok(steps)
}

struct Finished<'a> {
    args: &'a CompressArgs,
    model: &'a Model,
    data: &'a Data,
    split: &'a Split,
    networks: &'a Networks,
    plan: &'a [usize],
    notes: Vec<String>,
}

impl Finished<'_> {
    /// Thresholds, the folder, and what it measures.
    fn write(self, parameters: &Parameters, shared: &Shared<'_>, print: &mut dyn FnMut(&str)) -> Result<()> {
        let Self { args, model, data, split, networks, plan, notes } = self;
        let leaves = parameters.constants();
        let chosen = &split.train[..split.train.len().min(NUM_CALIBRATION)];
        let batches = chosen.chunks(args.batch).map(|samples| shared.batch(samples, None)).collect::<Result<_>>()?;
        let calibration = Calibration::new(&networks.approx, &leaves, batches);
        let (p_logit, retention) = calibration.p_logit(&networks.approx, args.keep, &parameters.place)?;
        print(&format!("concrete: p_logit {p_logit:.3} keeps {retention:.3} of the tokens\n"));
        let p_logits = vec![p_logit; networks.main.num_layers()];
        let written = Written {
            model,
            source: &args.model,
            parameters,
            main: &networks.main,
            approx: Some((&networks.approx, &networks.approx_values)),
            p_logits: Some(&p_logits),
            ltp_thresholds: None,
            format: if args.f32 { Format::F32 } else { Format::F16 },
        };
        written.write(&args.out, None)?;
        let result = Model::from_bytes(ModelFiles::from_dir(&args.out)?)?;
        let samples: Vec<&Sample> = split.held_back.iter().map(|&at| &data.samples[at]).collect();
        let labels: Option<Vec<Label>> =
            data.labels.as_ref().map(|labels| split.held_back.iter().map(|&at| labels[at]).collect());
        let task = model.config().task;
        let parent = answers(&mut engine(model)?, &samples, &Prune::Dense)?;
        let parent_line = Line::new("dense", task, &parent, &parent, labels.as_deref());
        let ratios = RATIOS.into_iter().rev().map(|ratio| format!("topk:{ratio}"));
        let rules = ["dense".to_owned()].into_iter().chain(ratios).chain(["concrete".to_owned()]);
        let mut device = engine(&result)?;
        let mut lines = Vec::new();
        for rule in rules {
            let prune: Prune = rule.parse()?;
            // With mean pooling every token counts: some rules cannot be.
            if result.lacks(&prune).is_some() {
                continue;
            }
            let found = answers(&mut device, &samples, &prune)?;
            lines.push(Line::new(&rule, task, &found, &parent, labels.as_deref()));
        }
        let default_prune = Report::choose(&parent_line, &lines, args.max_loss);
        choose_default(&args.out, Some(&default_prune))?;
        let names = ["distil", "elastic"].into_iter().map(str::to_owned);
        let report = Report {
            model: args.model.display().to_string(),
            data: args.data.path().display().to_string(),
            samples: [split.train.len(), split.validation.len(), split.held_back.len()],
            stages: names.zip(plan.iter().copied()).filter(|(_, steps)| *steps > 0).collect(),
            seed: args.seed,
            parent: parent_line,
            rules: lines,
            default_prune,
            max_loss: args.max_loss,
            notes,
        };
        report.write(&args.out)?;
        print(&format!("{}: the report is in REPORT.md\n", args.out.display()));
        Ok(())
    }
}
