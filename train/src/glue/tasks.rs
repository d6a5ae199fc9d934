//! The nine tasks of GLUE: their folders and files as people have them, their labels, and their metrics.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sttabt_command::command::ColumnArgs;

use crate::data::DataArgs;
use crate::error::{Error, Result};
use crate::metrics::Metric;

/// A task, as `--tasks` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum GlueTask {
    /// Whether a sentence is grammatical
    Cola,
    /// Whether a sentence of a film review is positive
    Sst2,
    /// Whether two sentences say the same
    Mrpc,
    /// How similar two sentences are, from 0 to 5
    Stsb,
    /// Whether two questions ask the same
    Qqp,
    /// Whether a sentence follows from another, contradicts it, or neither
    Mnli,
    /// Whether a sentence answers a question
    Qnli,
    /// Whether a sentence follows from a text
    Rte,
    /// Whether a pronoun means a word
    Wnli,
}

/// What is known of a task.
pub struct Facts {
    /// In files of results.
    pub name: &'static str,
    /// In GLUE's download.
    pub folder: &'static str,
    /// By index; none for a score.
    pub labels: &'static [&'static str],
    /// The first one is the curve's.
    pub metrics: &'static [Metric],
    /// The first one whose training file is there counts.
    forms: &'static [Form],
}

/// A way in which the files are handed on.
struct Form {
    train: &'static str,
    /// MNLI has two: of the kinds of texts that it was trained on, and of others.
    dev: &'static [&'static str],
    text: &'static str,
    pair: Option<&'static str>,
    label: &'static str,
    has_header: bool,
    /// QQP has rows that are broken by a line end in a question.
    has_broken_rows: bool,
}

/// One text, with a header.
const ONE: Form = Form {
    train: "train.tsv",
    dev: &["dev.tsv"],
    text: "sentence",
    pair: None,
    label: "label",
    has_header: true,
    has_broken_rows: false,
};
/// Two texts, with a header.
const TWO: Form = Form { text: "sentence1", pair: Some("sentence2"), ..ONE };
const MRPC: Form = Form { text: "#1 String", pair: Some("#2 String"), label: "Quality", ..ONE };

const ALL: [Facts; 9] = [
    Facts {
        name: "cola",
        folder: "CoLA",
        labels: &["unacceptable", "acceptable"],
        metrics: &[Metric::Matthews],
        // Columns: source, label, the author's mark, sentence.
        forms: &[Form { text: "4", label: "2", has_header: false, ..ONE }],
    },
    Facts {
        name: "sst2",
        folder: "SST-2",
        labels: &["negative", "positive"],
        metrics: &[Metric::Accuracy],
        forms: &[ONE],
    },
    Facts {
        name: "mrpc",
        folder: "MRPC",
        labels: &["not_equivalent", "equivalent"],
        metrics: &[Metric::Accuracy, Metric::F1],
        forms: &[MRPC, Form { train: "msr_paraphrase_train.txt", dev: &["msr_paraphrase_test.txt"], ..MRPC }],
    },
    Facts {
        name: "stsb",
        folder: "STS-B",
        labels: &[],
        metrics: &[Metric::Pearson, Metric::Spearman],
        forms: &[
            Form { label: "score", ..TWO },
            // Columns: genre, file, year, number, score, two texts; in some rows their sources follow.
            Form {
                train: "sts-train.tsv",
                dev: &["sts-dev.tsv"],
                text: "6",
                pair: Some("7"),
                label: "5",
                has_header: false,
                has_broken_rows: false,
            },
        ],
    },
    Facts {
        name: "qqp",
        folder: "QQP",
        labels: &["not_duplicate", "duplicate"],
        metrics: &[Metric::Accuracy, Metric::F1],
        forms: &[Form {
            text: "question1",
            pair: Some("question2"),
            label: "is_duplicate",
            has_broken_rows: true,
            ..ONE
        }],
    },
    Facts {
        name: "mnli",
        folder: "MNLI",
        labels: &["entailment", "neutral", "contradiction"],
        metrics: &[Metric::Accuracy],
        forms: &[Form { dev: &["dev_matched.tsv", "dev_mismatched.tsv"], label: "gold_label", ..TWO }],
    },
    Facts {
        name: "qnli",
        folder: "QNLI",
        labels: &["entailment", "not_entailment"],
        metrics: &[Metric::Accuracy],
        forms: &[Form { text: "question", pair: Some("sentence"), ..ONE }],
    },
    Facts {
        name: "rte",
        folder: "RTE",
        labels: &["entailment", "not_entailment"],
        metrics: &[Metric::Accuracy],
        forms: &[TWO],
    },
    Facts {
        name: "wnli",
        folder: "WNLI",
        labels: &["not_entailment", "entailment"],
        metrics: &[Metric::Accuracy],
        forms: &[TWO],
    },
];

impl GlueTask {
    /// What is known of it.
    pub fn facts(self) -> &'static Facts {
        &ALL[self as usize]
    }
}

/// The files of a task that is there.
pub struct TaskFiles {
    /// Which one.
    pub task: GlueTask,
    /// How the training file is read, with the development file as what is held back.
    pub data: DataArgs,
    /// One; of MNLI two.
    pub dev: Vec<PathBuf>,
}

/// Finds the files of a task; `None` where it has no folder.
///
/// # Errors
/// [`Error::Content`] for a folder that lacks files.
pub fn find(data: &Path, task: GlueTask, limit: Option<u32>) -> Result<Option<TaskFiles>> {
    let facts = task.facts();
    let folder = data.join(facts.folder);
    if !folder.is_dir() {
        return Ok(None);
    }
    let Some(form) = facts.forms.iter().find(|form| folder.join(form.train).exists()) else {
        let reason = format!("no training file in it; expected {}", expected(facts));
        return Err(Error::content(folder, reason));
    };
    let dev: Vec<PathBuf> = form.dev.iter().map(|name| folder.join(name)).collect();
    if let Some(missing) = dev.iter().find(|path| !path.exists()) {
        let reason = format!("it is not there, and {} is; expected {}", form.train, expected(facts));
        return Err(Error::content(missing, reason));
    }
    let train = Some(folder.join(form.train));
    let (texts, pairs) = if form.pair.is_some() { (None, train) } else { (train, None) };
    let columns = ColumnArgs {
        limit,
        text_column: Some(form.text.to_owned()),
        pair_column: form.pair.map(str::to_owned),
        label_column: Some(form.label.to_owned()),
        no_header: !form.has_header,
        skip_broken_rows: form.has_broken_rows,
        labels: None,
    };
    let data = DataArgs { texts, pairs, images: None, held_back: dev.first().cloned(), columns };
    Ok(Some(TaskFiles { task, data, dev }))
}

/// The files that a task may have, for a message.
pub fn expected(facts: &Facts) -> String {
    let names = |form: &Form| -> Vec<&str> { [form.train].iter().chain(form.dev).copied().collect() };
    let forms: Vec<String> = facts.forms.iter().map(|form| names(form).join(" and ")).collect();
    forms.join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_names() {
        for task in GlueTask::value_variants() {
            let name = task.to_possible_value().expect("a name");
            assert_eq!(name.get_name(), task.facts().name);
        }
    }
}
