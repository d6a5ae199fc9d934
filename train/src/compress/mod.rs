//! `sttabt-train compress` and `distill`: from a model and some of its inputs to a folder that runs pruned, and a report.

mod args;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Instant;

use burn::tensor::{DType, Device};
use serde_json::json;
use sttabt::training::{NetworkValues, Tokens, Which, values};
use sttabt::{InputConfig, Model, ModelFiles, Task};
use sttabt_command::command::table::Labels;

use crate::approx_net::smaller;
use crate::checkpoint::Progress;
use crate::data::{Data, Split};
use crate::distill::Transfers;
use crate::error::{Error, Result};
use crate::finish::Finished;
use crate::funnel::Funnel;
use crate::learners::{Distil, Elastic, Select, Shared};
use crate::measure::ParentAnswers;
use crate::network::Network;
use crate::parameters::{Parameters, Place};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::thresholds::Calibration;
use crate::trainer::{Learns, Stage, Trainer};

pub use args::{APPROX_RATE, CompressArgs, KEEP, REDUCTION};

/// Which stages a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// ApproxNet alone.
    Distil,
    /// ApproxNet, then the model.
    All,
}

/// Of all stages together.
pub const DEFAULT_STEPS: usize = 3000;
const STAGES: [&str; 3] = ["distil", "select", "elastic"];
/// The shares of a budget's steps or time: ApproxNet's distillation, selection, elastic training.
pub const SHARES: [f64; 3] = [0.3, 0.5, 0.2];
/// Where an ApproxNet is in the folder.
const SHARES_OF_DISTILLED: [f64; 3] = [0.0, 0.7, 0.3];
/// ApproxNet's rate in the selection, in units of the model's. At 1e-4 what it keeps swings from step to step, at 3e-5 it gets better.
const SELECT_FACTOR: f64 = 1.5;
/// The share of a budget's time that is for all but steps: answers of the parent, thresholds, the report.
const OVERHEAD: f64 = 0.15;

/// Samples that find the thresholds.
const NUM_CALIBRATION: usize = 256;

/// All networks of a run, whose values are in one list.
struct Networks {
    main: Network,
    approx: Network,
    approx_values: NetworkValues,
    /// Whether ApproxNet was in the folder.
    is_distilled: bool,
    transfers: Transfers,
}

/// Runs all stages.
pub fn run(args: &CompressArgs, stages: Stages, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    let start = Instant::now();
    args.check(stages)?;
    // What is wrong with the folder is said before long work.
    args.run.begin()?;
    let checkpoints = args.run.checkpoints();
    let model = Model::from_bytes(ModelFiles::from_dir(&args.run.model)?)?;
    let missing = || Error::content(&args.run.model, "no network in it");
    let main_values = values(&model, Which::Main)?.ok_or_else(missing)?;
    let data = Data::read(&args.run.data, &model, Labels::IfThere)?;
    data.notes.iter().for_each(|note| print(&format!("{note}\n")));
    let split = Split::new(&data, args.run.seed);
    let place = Place::new(device.clone(), DType::F32);
    let mut random = Random::of(args.run.seed, 3);
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
    let is_augmented = args.run.data.images.is_some();
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
    let shared = Shared {
        model: &model,
        samples: &data.samples,
        tokens: &tokens,
        answers: match is_augmented || stages == Stages::Distil {
            true => None,
            false => Some(RefCell::new(ParentAnswers::new(&model, data.samples.len())?)),
        },
        validation: &split.validation,
        parent: &parent,
        parent_leaves: parent_parameters.constants(),
        main: &networks.main,
        approx: &networks.approx,
        place: place.clone(),
        batch_size: args.run.batch,
    };
    if !networks.is_distilled && !checkpoints.exist() {
        let fit = Instant::now();
        let num_tokens = crate::approx_net::fit(&shared, &split.train, &networks.transfers, &mut parameters)?;
        print(&format!("ApproxNet fitted to {num_tokens} tokens: {:.0} s\n", fit.elapsed().as_secs_f64()));
    }
    let mut distil = Distil::new(&shared, &networks.transfers);
    let mut select = Select::new(&shared);
    let mut elastic = Elastic::new(&shared);
    let stage = |name, recipe, trained| Stage {
        name,
        recipe,
        trained,
        samples: &split.train,
        lengths: &lengths,
        batch_size: args.run.batch.min(split.train.len()),
    };
    let (approx_ids, idle) = trained_by_distillation(&networks);
    let distil_stage = stage(STAGES[0], recipe(args.approx_rate), approx_ids);
    let idle_maps = networks.approx.ids_after_last_map();
    let finding = networks.approx.ids_but_words().filter(|id| !idle_maps.contains(id));
    let select_ids = networks.main.ids_but_words().chain(finding).collect();
    let select_recipe = Recipe { approx_factor: SELECT_FACTOR, ..recipe(args.rate()) };
    let select_stage = stage(STAGES[1], select_recipe, select_ids);
    let elastic_stage = stage(STAGES[2], recipe(args.rate()), networks.main.ids_but_words().collect());
    let plan = if checkpoints.exist() {
        checkpoints.progress()?.plan
    } else {
        let learners: [(&Stage<'_>, &mut dyn Learns); 3] =
            [(&distil_stage, &mut distil), (&select_stage, &mut select), (&elastic_stage, &mut elastic)];
        plan(args, stages, &networks, &mut parameters, learners)?
    };
    let progress = Progress {
        settings: args.run.settings(
            &format!("{stages:?}"),
            json!({
                "stages": STAGES, "reduction": args.reduction, "rate": args.rate(), "approx_rate": args.approx_rate,
                "shares": args.shares,
            }),
        ),
        plan,
        stage: 0,
        step: 0,
        optimizer_steps: 0,
        best: None,
        log_bytes: 0,
    };
    let mut trainer = Trainer::new(parameters, progress, &args.run)?;
    crate::stop::on_interrupt()?;
    trainer.stage(0, &distil_stage, &mut distil)?;
    if stages == Stages::All {
        trainer.stage(1, &select_stage, &mut select)?;
        trainer.stage(2, &elastic_stage, &mut elastic)?;
    }
    trainer.finish()?;
    let mut notes = data.notes.clone();
    let has_learned = stages == Stages::All && args.run.steps != Some(0);
    if has_learned && matches!(model.config().input, InputConfig::Text(_)) {
        notes.push(
            "the tables of words learn in the first stage, ApproxNet's alone; the model's stays as it is".to_owned(),
        );
    }
    if has_learned && networks.is_distilled && args.shares.is_none() {
        notes.push(
            "the folder's ApproxNet goes on learning: the first stage is left out, and --reduction and --approx-rate count for nothing"
                .to_owned(),
        );
    }
    if !idle.is_empty() {
        let names: Vec<&str> = idle.iter().map(|&id| &*trainer.parameters.list[id].name).collect();
        notes.push(format!("not trained, because no loss depends on them: {}", names.join(", ")));
    }
    if trainer.is_stopped() {
        notes.push("ended early: the best state so far".to_owned());
    }
    let calibrated = calibrate(args, &networks, &trainer.parameters, &shared, &split)?;
    print(&format!("concrete: p_logit {:.3} keeps {:.3} of the tokens\n", calibrated.0, calibrated.1));
    let retentions = if stages == Stages::All { args.retentions() } else { Vec::new() };
    let funnel = match retentions.is_empty() {
        true => None,
        false => {
            let samples = split.validation.iter().chain(&split.train).copied();
            Some((Funnel::new(&shared, &trainer.parameters.constants(), samples)?, retentions))
        }
    };
    let finished = Finished {
        run: &args.run,
        model: &model,
        data: &data,
        split: &split,
        parameters: &trainer.parameters,
        main: &networks.main,
        approx: Some((&networks.approx, &networks.approx_values)),
        p_logits: Some(vec![calibrated.0; networks.main.num_layers()]),
        ltp_thresholds: None,
        funnel,
        stages: trainer.progress.done(STAGES),
        notes,
    };
    finished.write(print)?;
    if !trainer.is_stopped() {
        std::fs::remove_dir_all(checkpoints.folder()).map_err(Error::file("remove", checkpoints.folder()))?;
    }
    print(&format!("{:.1} minutes\n", start.elapsed().as_secs_f64() / 60.0));
    Ok(())
}

/// The threshold of `concrete`, and the share of the tokens that it keeps.
fn calibrate(
    args: &CompressArgs,
    networks: &Networks,
    parameters: &Parameters,
    shared: &Shared<'_>,
    split: &Split,
) -> Result<(f32, f64)> {
    let chosen = &split.train[..split.train.len().min(NUM_CALIBRATION)];
    let batches = chosen.chunks(args.run.batch).map(|samples| shared.batch(samples, None)).collect::<Result<_>>()?;
    let calibration = Calibration::new(&networks.approx, &parameters.constants(), batches);
    calibration.p_logit(&networks.approx, args.keep, &parameters.place)
}

fn recipe(rate: f64) -> Recipe {
    Recipe {
        rate,
        decay: 1e-4,
        approx_factor: 1.0,
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
    let found = values(model, Which::ApproxNet)?;
    let is_distilled = found.is_some();
    let approx_values = found.map_or_else(|| smaller(main_values, args.reduction, random), Ok)?;
    let config: serde_json::Value = crate::files::read_json(&args.run.model.join("config.json"))?;
    let pad_token = main_values.is_text().then(|| config["pad_token_id"].as_u64().unwrap_or(0) as usize);
    let mut main = Network::new(main_values, "", pad_token, parameters);
    main.pooling = model.pooling().map(|pooling| pooling.mode);
    let approx = Network::new(&approx_values, "approx/", pad_token, parameters);
    let sizes = [main.config.hidden_size, approx.config.hidden_size];
    let transfers = Transfers::random(parameters, main.num_layers(), sizes, random);
    let transfers = transfers.ok_or_else(|| Error::Failed("no transfers".to_owned()))?;
    Ok(Networks { main, approx, approx_values, is_distilled, transfers })
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
    networks: &Networks,
    parameters: &mut Parameters,
    learners: [(&Stage<'_>, &mut dyn Learns); 3],
) -> Result<Vec<usize>> {
    let shares = match stages {
        Stages::Distil => [1.0, 0.0, 0.0],
        Stages::All => match &args.shares {
            Some(shares) => args::given_shares(shares)?,
            None if networks.is_distilled => SHARES_OF_DISTILLED,
            None => SHARES,
        },
    };
    let Some(minutes) = args.run.budget else {
        let steps = args.run.steps.unwrap_or(DEFAULT_STEPS) as f64;
        return Ok(shares.map(|share| (share * steps).ceil() as usize).to_vec());
    };
    let mut steps = Vec::new();
    for ((stage, learner), share) in learners.into_iter().zip(shares) {
        let seconds =
            if share > 0.0 { crate::trainer::step_seconds(stage, learner, parameters, args.run.seed)? } else { 1.0 };
        steps.push((minutes * 60.0 * (1.0 - OVERHEAD) * share / seconds) as usize);
    }
    Ok(steps)
}
