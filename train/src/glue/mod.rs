//! `sttabt-train glue`: the paper's figure for an encoder. For each task of GLUE a fresh head is fine-tuned, every rule gets the training
//! that it needs, and the development file is measured with the engine.

mod args;
mod paper;
mod parts;
mod plot;
mod points;
mod results;
mod series;
mod tasks;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use clap::ValueEnum;
use serde_json::Value;

use crate::data::Data;
use crate::error::{Error, Result};
use crate::folder::{CONFIG, Format};
use crate::head::{Answer, Encoder};
use crate::loss::Label;
use crate::random::Random;
use paper::Paper;
use parts::{START, Trainings, is_finished, parts};
use points::{Dev, known_in, measure};
use results::{Results, TEXT, TaskResults, settings_in};
use tasks::{GlueTask, TaskFiles, expected, find};

pub use args::{Curve, GlueArgs};

/// A stream of random numbers: of new heads.
const HEAD: u64 = 4;

/// A task that can begin.
struct Prepared<'a> {
    task: GlueTask,
    trainings: Trainings<'a>,
    dev: Vec<Dev>,
    /// Of its scores.
    mean: f64,
}

impl Prepared<'_> {
    /// Writes the folder with a fresh head, if it is not there.
    fn write_start(&self, encoder: &Encoder) -> Result<()> {
        let (start, args) = (self.trainings.folder.join(START), self.trainings.args);
        if start.join(CONFIG).exists() {
            return Ok(());
        }
        let answer = match self.task.facts().labels {
            [] => Answer::Number(self.mean),
            labels => Answer::Label(labels),
        };
        let format = if args.f32 { Format::F32 } else { Format::F16 };
        encoder.write(answer, &mut Random::of(args.seed, HEAD), format, &start)
    }
}

/// Runs all tasks, or what is left of them.
pub fn run(args: &GlueArgs, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    args.check()?;
    let paper = args.paper.as_deref().map(Paper::read).transpose()?;
    let mut notes = Vec::new();
    let found = tasks_of(args, &mut notes)?;
    begin(args)?;
    // What is wrong with a file of the last task is said before anything is written.
    let mut results = Results { settings: args.settings(), notes: Vec::new(), tasks: Vec::new() };
    let encoder = Encoder::read(&args.model)?;
    let prepared = prepare(args, &encoder, found, paper.as_ref(), &mut results, &mut notes)?;
    notes.iter().for_each(|note| print(&format!("{note}\n")));
    results.notes = notes;
    // What earlier runs measured stays, whatever this one is asked for.
    for (one, task) in prepared.iter().zip(&mut results.tasks) {
        for folder in one.trainings.folders(&parts(args))? {
            task.add(known_in(&folder)?);
        }
    }
    fs::create_dir_all(&args.out).map_err(Error::file("write", &args.out))?;
    results.write(&args.out)?;
    for one in &prepared {
        one.write_start(&encoder)?;
    }
    crate::stop::on_interrupt()?;
    for (at, one) in prepared.iter().enumerate() {
        for part in parts(args) {
            let folder = one.trainings.folder_of(part);
            if !is_finished(&folder) {
                print(&format!("{}: {}\n", one.task.facts().name, part.folder()));
                one.trainings.run(part, device, print)?;
            }
            if is_finished(&folder) {
                let wanted = part.measured(args);
                let points = measure(&folder, part, (one.task, &wanted), &one.dev, args.seed, print)?;
                results.tasks[at].add(points);
                results.write(&args.out)?;
            }
            if crate::stop::is_stopped() {
                print(&format!("{}: stopped; go on with --resume\n", args.out.display()));
                return Ok(());
            }
        }
    }
    print(&format!("{}: the tables are in {TEXT}\n", args.out.display()));
    Ok(())
}

/// The tasks that are asked for, else those that are there.
fn tasks_of(args: &GlueArgs, notes: &mut Vec<String>) -> Result<Vec<TaskFiles>> {
    let is_asked = |task: &&GlueTask| args.tasks.is_empty() || args.tasks.contains(task);
    let mut found = Vec::new();
    for &task in GlueTask::value_variants().iter().filter(is_asked) {
        let facts = task.facts();
        match find(&args.data, task, args.limit)? {
            Some(files) => found.push(files),
            None if args.tasks.is_empty() => {
                notes.push(format!("{} is skipped: no folder {}", facts.name, facts.folder))
            }
            None => {
                let reason = format!(
                    "no folder {} in it; expected that with {}, or other --tasks",
                    facts.folder,
                    expected(facts)
                );
                return Err(Error::content(&args.data, reason));
            }
        }
    }
    if found.is_empty() {
        let folders: Vec<&str> = GlueTask::value_variants().iter().map(|task| task.facts().folder).collect();
        let reason = format!("no folder of GLUE in it; expected one or more of {}", folders.join(", "));
        return Err(Error::content(&args.data, reason));
    }
    Ok(found)
}

/// The folder is new, or a run with the same settings goes on.
fn begin(args: &GlueArgs) -> Result<()> {
    let out = args.out.display();
    let is_empty = fs::read_dir(&args.out).map_or(true, |mut entries| entries.next().is_none());
    let found = settings_in(&args.out)?;
    match (found, args.resume) {
        (Some(found), true) if found != args.settings() => {
            let differences = differences(&found, &args.settings());
            let way_out = "give the same, or another --out";
            Err(Error::Usage(format!("--resume: the run in {out} was begun with {differences}: {way_out}")))
        }
        (Some(_), false) => {
            Err(Error::Usage(format!("--out {out}: a run was begun there: go on with --resume, or name a new folder")))
        }
        (None, _) if !is_empty => Err(Error::Usage(format!("--out {out}: not empty: name a new folder"))),
        _ => Ok(()),
    }
}

/// The settings that are others, as they were and as they are now.
fn differences(found: &Value, asked: &Value) -> String {
    let empty = serde_json::Map::new();
    let of = |settings: &Value, key: &str| settings.get(key).unwrap_or(&Value::Null).to_string();
    let keys: BTreeSet<&String> =
        [found, asked].into_iter().flat_map(|settings| settings.as_object().unwrap_or(&empty).keys()).collect();
    let others = keys.into_iter().filter(|key| found.get(key.as_str()) != asked.get(key.as_str()));
    let text = |key: &String| format!("{key} {} (now {})", of(found, key), of(asked, key));
    others.map(text).collect::<Vec<_>>().join(", ")
}

/// Reads all files.
fn prepare<'a>(
    args: &'a GlueArgs,
    encoder: &Encoder,
    found: Vec<TaskFiles>,
    paper: Option<&Paper>,
    results: &mut Results,
    notes: &mut Vec<String>,
) -> Result<Vec<Prepared<'a>>> {
    let mut prepared = Vec::new();
    for files in found {
        let (task, facts) = (files.task, files.task.facts());
        let answer = match facts.labels {
            [] => Answer::Number(0.0),
            labels => Answer::Label(labels),
        };
        let config = encoder.config(answer);
        let path = files.data.path();
        let train = Data::labelled(&files.data, path, &config)?;
        notes.extend(train.notes.iter().map(|note| format!("{}: {note}", path.display())));
        let dev = Dev::read_all(&files, &config, notes)?;
        let folder = args.out.join(facts.name);
        let mean = mean(train.labels.as_deref().unwrap_or_default());
        let paper = match (paper, facts.metrics.first()) {
            (Some(paper), Some(metric)) => paper.task(facts.name, metric.name())?,
            _ => None,
        };
        let rows = |dev: &Dev| dev.num_samples();
        let dev_rows = files.dev.iter().map(|path| name_of(path)).zip(dev.iter().map(rows)).collect();
        let train_rows = (name_of(path), train.samples.len());
        results.tasks.push(TaskResults::new(task, train_rows, dev_rows, paper));
        let trainings = Trainings { args, folder, data: files.data, num_samples: train.samples.len() };
        prepared.push(Prepared { task, trainings, dev, mean });
    }
    Ok(prepared)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where the answers of a regression begin, so that its first steps are not for the mean alone.
fn mean(labels: &[Label]) -> f64 {
    let value = |label: &Label| match *label {
        Label::Value(value) => value,
        Label::Class(class) => class as f64,
    };
    labels.iter().map(value).sum::<f64>() / labels.len().max(1) as f64
}
