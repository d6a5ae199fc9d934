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

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use clap::ValueEnum;

use crate::data::Data;
use crate::error::{Error, Result};
use crate::folder::{CONFIG, Format};
use crate::head::{Answer, Encoder};
use crate::loss::Label;
use crate::random::Random;
use paper::Paper;
use parts::{START, Trainings, is_finished, parts};
use points::{Dev, measure};
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
}

/// Runs all tasks, or what is left of them.
pub fn run(args: &GlueArgs, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
    args.check()?;
    let paper = args.paper.as_deref().map(Paper::read).transpose()?;
    let mut notes = Vec::new();
    let found = tasks_of(args, &mut notes)?;
    begin(args)?;
    // What is wrong with a file of the last task is said before the first one begins.
    let mut results = Results { settings: args.settings(), notes: Vec::new(), tasks: Vec::new() };
    let prepared = prepare(args, found, paper.as_ref(), &mut results, &mut notes)?;
    notes.iter().for_each(|note| print(&format!("{note}\n")));
    results.notes = notes;
    results.write(&args.out)?;
    crate::stop::on_interrupt();
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
            Err(Error::Usage(format!("--resume: the run in {out} was begun with {found}")))
        }
        (Some(_), false) => {
            Err(Error::Usage(format!("--out {out}: a run was begun there: go on with --resume, or name a new folder")))
        }
        (None, _) if !is_empty => Err(Error::Usage(format!("--out {out}: not empty: name a new folder"))),
        _ => fs::create_dir_all(&args.out).map_err(Error::file("write", &args.out)),
    }
}

/// Reads all files, and writes the folders with fresh heads.
fn prepare<'a>(
    args: &'a GlueArgs,
    found: Vec<TaskFiles>,
    paper: Option<&Paper>,
    results: &mut Results,
    notes: &mut Vec<String>,
) -> Result<Vec<Prepared<'a>>> {
    let encoder = Encoder::read(&args.model)?;
    let format = if args.f32 { Format::F32 } else { Format::F16 };
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
        let start = folder.join(START);
        if !start.join(CONFIG).exists() {
            let answer = match answer {
                Answer::Number(_) => Answer::Number(mean(train.labels.as_deref().unwrap_or_default())),
                labels => labels,
            };
            encoder.write(answer, &mut Random::of(args.seed, HEAD), format, &start)?;
        }
        let paper = match (paper, facts.metrics.first()) {
            (Some(paper), Some(metric)) => paper.task(facts.name, metric.name())?,
            _ => None,
        };
        let rows = |dev: &Dev| dev.num_samples();
        let dev_rows = files.dev.iter().map(|path| name_of(path)).zip(dev.iter().map(rows)).collect();
        let train_rows = (name_of(path), train.samples.len());
        results.tasks.push(TaskResults::new(task, train_rows, dev_rows, paper));
        let trainings = Trainings { args, folder, data: files.data, num_samples: train.samples.len() };
        prepared.push(Prepared { task, trainings, dev });
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
