//! `sttabt classify` and `sttabt embed`: texts or images in, surviving tokens or patches out.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::command::note;
use sttabt::{Classification, Decision, Engine, Input, Model, Outputs, Picture, Policy, Prune, PruneMode, Task};

use super::args::{ClassifyArgs, EmbedArgs, RunArgs};
use super::classify_json::Report;
use super::model_dir::{Kind, find, load, unreadable};
use super::{Failure, Result, default_rule, draw, figure, images, open_engine, text, text_input, visible};

/// Images decoded and run at once: a batch large enough for any device, and small enough for the memory of photographs.
const IMAGES_AT_ONCE: usize = 32;

/// What there is to classify.
pub enum Inputs {
    /// Each text, perhaps with its second.
    Texts(Vec<(String, Option<String>)>),
    Images(Vec<PathBuf>),
}

impl Inputs {
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Images(files) => files.len(),
        }
    }
}

/// The results of all inputs.
#[derive(Default)]
pub struct Run {
    pub results: Vec<Classification>,
    /// Of `auto`, for each batch.
    pub decisions: Vec<Decision>,
    /// Without the decoding of images.
    pub ms: f64,
}

/// What is run.
pub enum Plan {
    Rule(Prune),
    Auto(Policy),
}

impl Plan {
    fn new(engine: &mut Engine, rule: Prune, is_auto: bool) -> Result<Self> {
        if !is_auto || rule.is_dense() {
            return Ok(Self::Rule(rule));
        }
        let start = Instant::now();
        let now_ms = move || start.elapsed().as_secs_f64() * 1e3;
        Ok(Self::Auto(pollster::block_on(engine.measure_policy(&rule, &now_ms))?))
    }
}

/// What is to come out.
struct Wanted<'a> {
    embeds: bool,
    outputs: Outputs,
    save: Option<&'a Path>,
}

pub fn run(args: &ClassifyArgs) -> Result<()> {
    if args.save.is_some() && args.run.image.is_empty() {
        return Err(Failure::Usage("--save draws images: it needs --image".to_owned()));
    }
    let outputs = Outputs { sigmoid: args.sigmoid, threshold: args.threshold, ..Outputs::default() };
    run_for(&args.run, args.pair, &Wanted { embeds: false, outputs, save: args.save.as_deref() })
}

pub fn embed(args: &EmbedArgs) -> Result<()> {
    run_for(&args.run, false, &Wanted { embeds: true, outputs: Outputs::default(), save: None })
}

fn run_for(args: &RunArgs, pair: bool, wanted: &Wanted<'_>) -> Result<()> {
    let (inputs, kind) = match args.image.as_slice() {
        [] => (Inputs::Texts(texts(args, pair, wanted.embeds)?), Kind::Text),
        paths => (Inputs::Images(images::files(paths)?), Kind::Images),
    };
    let folder = find(&args.model, kind)?;
    let model = load(&folder)?;
    if wanted.embeds && model.pooling().is_some() && matches!(kind, Kind::Text) && !folder.join("modules.json").exists()
    {
        note("no modules.json says how vectors are made: they are those of [CLS], of length 1");
    }
    if let Some(path) = wanted.save {
        figure::check(path, inputs.len(), model.config())?;
    }
    let is_auto = matches!(args.prune, Some(PruneMode::Auto(_)));
    let rule = match &args.prune {
        Some(PruneMode::Rule(rule) | PruneMode::Auto(Some(rule))) => rule.clone(),
        Some(PruneMode::Auto(None)) | None => default_rule(&model)?,
    };
    let mut engine = open_engine(&model, &args.device)?;
    let plan = Plan::new(&mut engine, rule, is_auto)?;
    let run = match &inputs {
        Inputs::Texts(texts) => run_texts(&mut engine, texts, &plan, wanted)?,
        Inputs::Images(files) => run_images(&mut engine, files, &plan, wanted)?,
    };
    if let Some(path) = wanted.save {
        let rows: Vec<(&Picture, &Classification)> =
            run.results.iter().filter_map(|result| Some((result.picture.as_ref()?, result))).collect();
        if let Some(figure) = figure::draw(&rows) {
            figure::save(&figure, path)?;
        }
    }
    if args.json {
        let report = Report::new(folder.display().to_string(), &engine, &plan, &inputs, &run);
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        print(wanted, &engine, &plan, &inputs, &run)?;
    }
    Ok(())
}

fn extend(
    engine: &mut Engine,
    inputs: &[Input<'_>],
    plan: &Plan,
    wanted: &Wanted<'_>,
    run: &mut Run,
) -> sttabt::Result<()> {
    let start = Instant::now();
    let outputs = &wanted.outputs;
    run.results.extend(match plan {
        Plan::Rule(prune) if wanted.embeds => pollster::block_on(engine.embed(inputs, prune, outputs))?,
        Plan::Rule(prune) => pollster::block_on(engine.classify(inputs, prune, outputs))?,
        Plan::Auto(policy) => {
            let (decision, results) = if wanted.embeds {
                pollster::block_on(engine.embed_by(policy, inputs, outputs))?
            } else {
                pollster::block_on(engine.classify_by(policy, inputs, outputs))?
            };
            run.decisions.push(decision);
            results
        }
    });
    run.ms += start.elapsed().as_secs_f64() * 1e3;
    Ok(())
}

fn run_texts(engine: &mut Engine, texts: &[(String, Option<String>)], plan: &Plan, wanted: &Wanted<'_>) -> Result<Run> {
    let mut run = Run::default();
    let inputs: Vec<Input<'_>> = texts.iter().map(|(text, pair)| text_input(text, pair.as_deref())).collect();
    extend(engine, &inputs, plan, wanted, &mut run)?;
    Ok(run)
}

fn run_images(engine: &mut Engine, files: &[PathBuf], plan: &Plan, wanted: &Wanted<'_>) -> Result<Run> {
    let mut run = Run::default();
    for files in files.chunks(IMAGES_AT_ONCE) {
        let pictures: Vec<Picture> = files.iter().map(|file| images::picture(file)).collect::<Result<_>>()?;
        let inputs: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
        extend(engine, &inputs, plan, wanted, &mut run)
            .map_err(|error| super::name_file(error, |index| &files[index]))?;
        if wanted.save.is_none() {
            run.results.iter_mut().for_each(|result| result.picture = None);
        }
    }
    Ok(run)
}

fn print(wanted: &Wanted<'_>, engine: &Engine, plan: &Plan, inputs: &Inputs, run: &Run) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    for (index, result) in run.results.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        match (inputs, result.grid) {
            (Inputs::Images(files), Some(grid)) => {
                writeln!(out, "{}", visible(&files[index].display().to_string()))?;
                if wanted.save.is_none() {
                    draw::grids(&mut out, result, grid, width)?;
                    writeln!(out)?;
                }
            }
            _ => {
                draw::layers(&mut out, result, &engine.model().pieces(&result.tokens), width)?;
                writeln!(out)?;
            }
        }
        draw::summary(&mut out, result, &answers(engine.model(), inputs, result))?;
    }
    if let Some(path) = wanted.save {
        writeln!(out, "\nthe layers are drawn in {}", visible(&path.display().to_string()))?;
    }
    let backend = engine.backend();
    let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
    let batch = if run.results.len() == 1 { String::new() } else { format!(" for {} inputs", run.results.len()) };
    let rule = match (plan, run.results.first()) {
        (Plan::Auto(_), Some(first)) if run.results.iter().all(|result| result.prune == first.prune) => {
            first.prune.to_string()
        }
        (Plan::Auto(_), _) => "auto".to_owned(),
        (Plan::Rule(prune), _) => prune.to_string(),
    };
    writeln!(out, "\n{rule} on {}{device}: {:.1} ms{batch}", backend.backend, run.ms)?;
    if let Plan::Auto(policy) = plan {
        let sum = |ms: fn(&Decision) -> f64| run.decisions.iter().map(ms).sum::<f64>();
        let (dense_ms, pruned_ms) = (sum(|decision| decision.dense_ms), sum(|decision| decision.pruned_ms));
        write!(out, "auto: from what this device took, {dense_ms:.1} ms were expected for dense and ")?;
        if pruned_ms.is_finite() {
            writeln!(out, "{pruned_ms:.1} ms for {}", policy.prune())?;
        } else {
            writeln!(out, "{} takes no input of so many tokens", policy.prune())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The label with its probability, of an image the five best; of several labels all that count; a number; or the start of a vector.
fn answers(model: &Model, inputs: &Inputs, result: &Classification) -> Vec<String> {
    const NUMBERS: usize = 4;
    let config = model.config();
    let probability = |label: usize| format!("{} {:.1} %", visible(&config.labels[label]), 100.0 * result.probs[label]);
    let mut by_logit: Vec<usize> = (0..result.logits.len()).collect();
    by_logit.sort_by(|&a, &b| result.logits[b].total_cmp(&result.logits[a]));
    match config.task {
        Task::Regression => {
            let sigmoid = result.probs.first().map_or(String::new(), |prob| format!(" (sigmoid {prob:.3})"));
            vec![format!("{} {:.3}{sigmoid}", visible(&config.labels[0]), result.logits[0])]
        }
        Task::MultiLabel => {
            let chosen = result.labels.as_deref().unwrap_or_default();
            let is_chosen = |label: &&usize| chosen.contains(&config.labels[**label]);
            let answers: Vec<String> = by_logit.iter().filter(is_chosen).map(|&label| probability(label)).collect();
            let best = by_logit.first().map(|&label| format!("none; most likely {}", probability(label)));
            if answers.is_empty() { best.into_iter().collect() } else { answers }
        }
        Task::Classification => {
            let num_answers = if matches!(inputs, Inputs::Images(_)) { 5 } else { 1 };
            by_logit.into_iter().take(num_answers).map(probability).collect()
        }
        Task::Embedding => {
            let embedding = result.embedding.as_deref().unwrap_or_default();
            let start: Vec<String> = embedding.iter().take(NUMBERS).map(|value| format!("{value:.4}")).collect();
            vec![format!("{} numbers: {}, …", embedding.len(), start.join(", "))]
        }
    }
}

/// The inputs of TEXT…, `-` and `--file`, in that order.
fn texts(args: &RunArgs, pair: bool, embeds: bool) -> Result<Vec<(String, Option<String>)>> {
    let mut inputs = Vec::new();
    let from_stdin = args.texts.iter().filter(|text| *text == "-").count();
    if from_stdin > 1 {
        return Err(Failure::Usage("`-` reads standard input, which can be read only once".to_owned()));
    }
    if pair && from_stdin == 0 {
        if !args.texts.len().is_multiple_of(2) {
            let message = format!("--pair takes texts two by two, and there are {}", args.texts.len());
            return Err(Failure::Usage(message));
        }
        inputs.extend(args.texts.chunks_exact(2).map(|texts| (texts[0].clone(), Some(texts[1].clone()))));
    } else {
        for text in &args.texts {
            if text == "-" {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable("standard input".as_ref(), &error))?;
                inputs.extend(lines("standard input", &bytes, pair)?);
            } else if pair {
                return Err(Failure::Usage("with --pair, `-` stands alone: its lines hold both texts".to_owned()));
            } else {
                inputs.push((text.clone(), None));
            }
        }
    }
    if let Some(path) = &args.file {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        inputs.extend(lines(&path.display().to_string(), &bytes, pair)?);
    }
    if inputs.is_empty() {
        let verb = if embeds { "embed" } else { "classify" };
        return Err(Failure::Usage(format!(
            "nothing to {verb}: give a TEXT, `-`, --file or --image (see sttabt {verb} --help)"
        )));
    }
    Ok(inputs)
}

/// One input per line; with `pair`, a tab between its two texts. Blank lines at the end are no inputs.
fn lines(source: &str, bytes: &[u8], pair: bool) -> Result<Vec<(String, Option<String>)>> {
    let text = text::decode(source, bytes)?;
    let num_lines = text.trim_end().lines().count();
    let inputs = text.lines().take(num_lines).enumerate().map(|(index, line)| {
        let error = |what: &str| Err(Failure::Error(format!("{source}, line {}: {what}", index + 1)));
        let (first, second) = match (pair, line.split_once('\t')) {
            (true, Some((first, second))) => (first, Some(second)),
            (true, None) => return error("no tab, expected two texts with a tab between them"),
            (false, _) => (line, None),
        };
        if first.trim().is_empty() || second.is_some_and(|second| second.trim().is_empty()) {
            return error("a text is empty, expected at least one word");
        }
        Ok((first.to_owned(), second.map(str::to_owned)))
    });
    inputs.collect()
}
