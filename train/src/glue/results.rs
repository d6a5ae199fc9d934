//! What a run has found so far, as glue.json and GLUE.md.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::paper::PaperTask;
use super::points::Point;
use super::series::{self, Compared, Series, compare};
use super::{plot, tasks::GlueTask};
use crate::checkpoint::write_whole;
use crate::error::{Error, Result};
use crate::files::read_json;

/// The file with all points.
pub const JSON: &str = "glue.json";
/// The file with the tables.
pub const TEXT: &str = "GLUE.md";

/// Of one task.
#[derive(Serialize)]
pub struct TaskResults {
    /// As `--tasks` names it.
    pub task: &'static str,
    #[serde(skip)]
    which: GlueTask,
    /// The training file.
    pub train: String,
    /// Its rows.
    pub train_samples: usize,
    /// The development files, and their rows.
    pub dev: Vec<(String, usize)>,
    #[serde(skip)]
    points: Vec<Point>,
    #[serde(skip)]
    paper: Option<PaperTask>,
}

impl TaskResults {
    /// Nothing is measured yet.
    pub fn new(which: GlueTask, train: (String, usize), dev: Vec<(String, usize)>, paper: Option<PaperTask>) -> Self {
        let (train, train_samples) = train;
        Self { task: which.facts().name, which, train, train_samples, dev, points: Vec::new(), paper }
    }

    /// Takes points, some of which may be there already.
    pub fn add(&mut self, points: Vec<Point>) {
        for point in points {
            match self.points.iter_mut().find(|known| known.is_of(&point)) {
                Some(known) => *known = point,
                None => self.points.push(point),
            }
        }
    }
}

/// Of all tasks.
#[derive(Serialize)]
pub struct Results {
    /// What must be the same for a run to go on.
    pub settings: Value,
    /// What was skipped, left out or assumed.
    pub notes: Vec<String>,
    /// In the order in which they run.
    pub tasks: Vec<TaskResults>,
}

/// What was asked for when the run in this folder began; `None` for a folder without one.
pub fn settings_in(out: &Path) -> Result<Option<Value>> {
    let path = out.join(JSON);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(read_json(&path)?["settings"].clone()))
}

impl Results {
    /// Writes both files, and a picture for each task with points.
    pub fn write(&self, out: &Path) -> Result<()> {
        let wrong = |error: serde_json::Error| Error::content(out.join(JSON), error.to_string());
        let mut json = serde_json::to_value(self).map_err(wrong)?;
        let points: Vec<&Point> = self.tasks.iter().flat_map(|task| &task.points).collect();
        json["points"] = serde_json::to_value(points).map_err(wrong)?;
        let json = serde_json::to_string_pretty(&json).map_err(wrong)?;
        write_whole(&out.join(JSON), format!("{json}\n").as_bytes())?;
        for task in self.tasks.iter().filter(|task| !task.points.is_empty()) {
            let picture = plot::picture(task.title(), &series::all(&task.points), task.dense(), task.paper.as_ref())?;
            write_whole(&out.join(format!("{}.svg", task.task)), picture.as_bytes())?;
        }
        write_whole(&out.join(TEXT), self.text().as_bytes())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# GLUE with {}\n\nSeed {}. Metrics are in per cent, and so is what a rule loses to the dense model of the task. \
             Retention is the mean share\nof the tokens that a layer reads. FLOPs are in units of a dense pass, ApproxNet included.\n\n\
             - `topk`, `oracle` and `forward`: the fine-tuned model, whose weights never saw pruning\n\
             - `topk, compressed` and `concrete, compressed`: after the selection and the elastic training, without labels\n\
             - `concrete` and `ltp`: a model for each point, trained with labels once more\n\
             - `oracle` looks at the model's own attention, so that it costs more than a dense pass: it is no competitor\n",
            self.settings["model"].as_str().unwrap_or_default(),
            self.settings["seed"]
        );
        for note in &self.notes {
            text += &format!("\nNote: {note}\n");
        }
        self.tasks.iter().for_each(|task| text += &task.text());
        text
    }
}

fn percent(value: f64) -> String {
    let text = format!("{:.2}", 100.0 * value);
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

fn percent_or_nothing(value: Option<f64>) -> String {
    value.map(percent).unwrap_or_default()
}

impl TaskResults {
    fn dense(&self) -> Option<f64> {
        series::dense(&self.points, "finetuned")
    }

    fn title(&self) -> String {
        format!("{}: {}", self.task, self.which.facts().metrics.first().map_or("", |metric| metric.name()))
    }

    fn text(&self) -> String {
        let dev: Vec<String> = self.dev.iter().map(|(name, rows)| format!("{rows} rows of {name}")).collect();
        let (name, rows) = (&self.train, self.train_samples);
        let title = self.title();
        let mut text =
            format!("\n## {title}\n\nLearned from {rows} rows of {name}. Measured on {}.\n", dev.join(" and "));
        let Some(dense) = self.dense() else { return text + "Nothing is measured yet.\n" };
        text += &format!("Without pruning: {}", percent(dense));
        let compressed = series::dense(&self.points, "compressed");
        text += &compressed.map(|dense| format!("; the compressed model: {}", percent(dense))).unwrap_or_default();
        let of_paper = self.paper.as_ref().map(|paper| format!("; the paper's BERT-base: {}", percent(paper.dense)));
        text += &format!("{}.\n\n", of_paper.unwrap_or_default());
        let all = series::all(&self.points);
        text += &self.table(&all, dense);
        let compared = compare(&all, self.paper.as_ref());
        if !compared.is_empty() {
            text += &self.comparison(&all, &compared);
            text += &verdict(&all, &compared);
            text += &self.against_the_paper(&all, &compared, dense);
        }
        text + &format!("\n![{title}]({}.svg)\n", self.task)
    }

    /// Every point.
    fn table(&self, all: &[Series<'_>], dense: f64) -> String {
        let points = || all.iter().flat_map(|one| one.points.iter().map(move |point| (one.kind, point)));
        let Some((_, first)) = points().next() else { return String::new() };
        let names: Vec<&String> = first.metrics.keys().collect();
        let heads: String = names.iter().map(|name| format!(" {} |", name.replace('_', " "))).collect();
        let mut text = format!("| rule | argument |{heads} loses | retention | FLOPs | ms |");
        if self.paper.is_some() {
            text += " the paper's there | loses |";
        }
        let num_numbers = names.len() + 4 + if self.paper.is_some() { 2 } else { 0 };
        text += &format!("\n|---|--:|{}\n", "--:|".repeat(num_numbers));
        for (kind, point) in points() {
            let argument = point.argument.map(|argument| argument.to_string()).unwrap_or_default();
            let values: String = point.metrics.values().map(|value| format!(" {} |", percent(*value))).collect();
            text += &format!(
                "| {} | {argument} |{values} {} | {:.3} | {:.3} | {:.2} |",
                kind.name,
                percent(dense - point.value),
                point.retention,
                point.flops_share,
                point.ms
            );
            if let Some(paper) = &self.paper {
                let theirs = kind.paper.and_then(|curve| paper.line(curve)?.at(point.retention));
                let loses = theirs.map(|theirs| paper.dense - theirs);
                text += &format!(" {} | {} |", percent_or_nothing(theirs), percent_or_nothing(loses));
            }
            text += "\n";
        }
        text
    }

    /// All curves at the same retentions.
    fn comparison(&self, all: &[Series<'_>], compared: &[Compared]) -> String {
        let mut text = "\nAt the same retention, on the straight lines between the points".to_owned();
        text +=
            if self.paper.is_some() { " (in brackets the paper's):\n\n| retention |" } else { ":\n\n| retention |" };
        text += &all.iter().map(|one| format!(" {} |", one.kind.name)).collect::<String>();
        text += if self.paper.is_some() { " the paper's best |" } else { "" };
        text += &format!("\n|--:|{}\n", "--:|".repeat(all.len() + usize::from(self.paper.is_some())));
        for row in compared {
            text += &format!("| {} |", row.retention);
            for (one, [ours, theirs]) in all.iter().zip(&row.values) {
                let ours = match ours {
                    Some(ours) if one.kind.competes && row.order.len() > 1 && row.best() == Some(*ours) => {
                        format!("**{}**", percent(*ours))
                    }
                    ours => percent_or_nothing(*ours),
                };
                let theirs = theirs.map(|theirs| format!(" ({})", percent(theirs))).unwrap_or_default();
                text += &format!(" {ours}{theirs} |");
            }
            if self.paper.is_some() {
                let best = row.best_of_paper.map(|(curve, best)| format!("{} {}", curve.name(), percent(best)));
                text += &format!(" {} |", best.unwrap_or_default());
            }
            text += "\n";
        }
        text
    }

    /// Where a rule loses less to its dense model than the paper's to BERT-base.
    fn against_the_paper(&self, all: &[Series<'_>], compared: &[Compared], dense: f64) -> String {
        let Some(paper) = &self.paper else { return String::new() };
        let sentence = |what: &str, other: &str, pair: &dyn Fn(&Compared) -> Option<(f64, f64)>| {
            let (mut less, mut more) = (Vec::new(), Vec::new());
            for (row, (ours, theirs)) in compared.iter().filter_map(|row| Some((row, pair(row)?))) {
                let loses_less = dense - ours <= paper.dense - theirs;
                if loses_less { less.push(row.retention) } else { more.push(row.retention) }
            }
            let parts = [(less, "no more than"), (more, "more than")].into_iter().filter(|(list, _)| !list.is_empty());
            let parts: Vec<String> = parts.map(|(list, how)| format!("{how} {other} at {}", numbers(&list))).collect();
            if parts.is_empty() { String::new() } else { format!("- {what} loses {}\n", parts.join(", and ")) }
        };
        let mut text = String::new();
        for (at, one) in all.iter().enumerate() {
            text += &sentence(&format!("`{}`", one.kind.name), "the paper's", &|row| {
                row.values[at][0].zip(row.values[at][1])
            });
        }
        text + &sentence("The best of ours", "the paper's best", &|row| {
            row.best().zip(row.best_of_paper.map(|(_, best)| best))
        })
    }
}

fn numbers(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

/// Which curve is the highest where, and which the lowest, of those that compete.
fn verdict(all: &[Series<'_>], compared: &[Compared]) -> String {
    let mut text = "\n".to_owned();
    type End = fn(&[usize]) -> Option<&usize>;
    let ends: [(&str, End); 2] = [("wins", <[usize]>::first), ("is last", <[usize]>::last)];
    for (what, end) in ends {
        for (at, one) in all.iter().enumerate().filter(|(_, one)| one.kind.competes) {
            // A draw is said of all that are equal.
            let is_there = |row: &&Compared| {
                row.order.len() > 1 && end(&row.order).is_some_and(|best| row.values[*best][0] == row.values[at][0])
            };
            let there: Vec<f64> = compared.iter().filter(is_there).map(|row| row.retention).collect();
            if !there.is_empty() {
                text += &format!("- `{}` {what} at retention {}\n", one.kind.name, numbers(&there));
            }
        }
    }
    text
}
