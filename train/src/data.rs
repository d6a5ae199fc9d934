//! What a training reads: texts, pairs of texts, or pictures; labels where a file has them.

use std::path::{Path, PathBuf};

use clap::Args;
use sttabt::training::{Tokens, tokens};
use sttabt::{Config, Input, InputConfig, Model, Picture, Task};
use sttabt_command::command::table::{Expected, Labels, Row, Table, parse, parse_texts};
use sttabt_command::command::{ColumnArgs, images, text};

use crate::error::{Error, Result};
use crate::files::read;
use crate::loss::Label;
use crate::random::Random;

/// Where the data is.
#[derive(Args, Clone, Default)]
pub struct DataArgs {
    /// Texts, or pairs: a .txt with one text a line, or a .tsv, .csv or .jsonl with columns as `sttabt eval` reads them
    #[arg(long, visible_alias = "data", value_name = "FILE", required_unless_present_any = ["pairs", "images"], conflicts_with_all = ["pairs", "images"])]
    pub texts: Option<PathBuf>,
    /// The same, where every row must have a second text
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    pub pairs: Option<PathBuf>,
    /// Pictures: all in this folder and those below; folders that are called as the model's classes are labels
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// What the report is about, of the same kind; by default a tenth of the data, which is then not learned from
    #[arg(long, value_name = "PATH")]
    pub held_back: Option<PathBuf>,
    /// Of a file with columns
    #[command(flatten)]
    pub columns: ColumnArgs,
}

impl DataArgs {
    /// The file or folder.
    pub fn path(&self) -> &Path {
        [&self.texts, &self.pairs, &self.images].into_iter().flatten().next().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// One input.
pub enum Sample {
    /// One text, or two.
    Text(String, Option<String>),
    /// A file.
    Picture(PathBuf),
}

/// Inputs, in the order of the file.
pub struct Data {
    /// Those that can be read.
    pub samples: Vec<Sample>,
    /// Of each, if the file has labels that the model knows.
    pub labels: Option<Vec<Label>>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// So many at the end are of the file that is held back.
    pub num_held_back: usize,
}

impl Data {
    /// Reads a file of texts that must have labels, for a model with this `config.json`; how, the arguments say.
    pub fn labelled(args: &DataArgs, path: &Path, config: &Config) -> Result<Self> {
        texts(args, path, config, Labels::Needed)
    }

    /// Reads what the arguments name, for a model.
    pub fn read(args: &DataArgs, model: &Model, labels: Labels) -> Result<Self> {
        let is_image_model = matches!(model.config().input, InputConfig::Image(_));
        if is_image_model != args.images.is_some() {
            let [reads, needs] =
                if is_image_model { ["pictures", "--images DIR"] } else { ["texts", "--texts FILE or --pairs FILE"] };
            return Err(Error::Usage(format!("the model reads {reads}: give {needs}")));
        }
        let of = |path: &Path| match &args.images {
            Some(_) => pictures(&args.columns, path, model, labels),
            None => texts(args, path, model.config(), labels),
        };
        let mut data = of(args.path())?;
        if data.samples.len() < MIN_SAMPLES {
            let found = data.samples.len();
            let reason =
                format!("{found} samples, expected at least {MIN_SAMPLES} (a tenth is held back for the report)");
            return Err(Error::content(args.path(), reason));
        }
        if let Some(path) = &args.held_back {
            let more = of(path)?;
            data.num_held_back = more.samples.len();
            data.samples.extend(more.samples);
            if data.labels.is_some() != more.labels.is_some() {
                let which = if data.labels.is_some() { path } else { args.path() };
                let reason =
                    "no labels that the model knows, and the other file has them: give both labels, or neither";
                return Err(Error::content(which, reason));
            }
            data.labels = data.labels.zip(more.labels).map(|(labels, more)| [labels, more].concat());
            data.notes.extend(more.notes);
        }
        Ok(data)
    }
}

/// Fewer cannot be split.
const MIN_SAMPLES: usize = 40;

fn pictures(columns: &ColumnArgs, folder: &Path, model: &Model, wanted: Labels) -> Result<Data> {
    let mut notes = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(Error::file("read", folder))?;
    // Folders in it may be called as the model's classes are.
    let has_folders = entries.filter_map(std::result::Result::ok).any(|entry| entry.path().is_dir());
    let labelled = match (model.config().task, has_folders) {
        (Task::Classification, true) => Some(images::labelled(columns, folder, model.config())),
        _ => None,
    };
    let (files, classes): (Vec<PathBuf>, Option<Vec<usize>>) = match labelled {
        Some(Ok(labelled)) => {
            let (files, classes) = labelled.into_iter().unzip();
            (files, Some(classes))
        }
        Some(Err(failure)) if wanted == Labels::Needed => return Err(failure.into()),
        None if wanted == Labels::Needed => {
            let reason = "no labels in it: expected one folder per class, and a model that gives one of several labels";
            return Err(Error::content(folder, reason));
        }
        failed => {
            if let Some(Err(failure)) = failed {
                notes.push(format!("the folders' names are no labels: {}", Error::from(failure)));
            }
            let files = images::files(&[folder.to_owned()])?;
            (files.into_iter().take(limit(columns)).collect(), None)
        }
    };
    let (mut samples, mut labels, mut num_skipped) = (Vec::new(), Vec::new(), 0);
    for (at, path) in files.into_iter().enumerate() {
        match picture(&path) {
            Ok(_) => {
                samples.push(Sample::Picture(path));
                labels.extend(classes.as_ref().map(|classes| Label::Class(classes[at])));
            }
            Err(error) => {
                num_skipped += 1;
                notes.push(format!("skipped: {error}"));
            }
        }
    }
    match num_skipped {
        0 => {}
        1 => notes.push("1 picture was skipped".to_owned()),
        _ => notes.push(format!("{num_skipped} pictures were skipped")),
    }
    if samples.is_empty() {
        return Err(Error::content(folder, format!("no picture in it can be read; {}", notes.join("; "))));
    }
    Ok(Data { samples, labels: classes.map(|_| labels), notes, num_held_back: 0 })
}

fn picture(path: &Path) -> Result<Picture> {
    Ok(images::picture(path)?)
}

fn texts(args: &DataArgs, path: &Path, config: &Config, wanted: Labels) -> Result<Data> {
    let bytes = read(path)?;
    let columns = &args.columns;
    let is_plain = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt"));
    let named = [&columns.text_column, &columns.pair_column, &columns.label_column];
    let has_columns = named.into_iter().any(Option::is_some) || columns.no_header || args.pairs.is_some();
    let table = match wanted {
        Labels::Needed => with_optional_labels(parse(columns, path, &bytes, config)?),
        Labels::IfThere if is_plain && !has_columns => lines(columns, path, &bytes)?,
        Labels::IfThere => parse_texts(columns, path, &bytes, config)?,
    };
    if let (Some(_), Some(row)) = (&args.pairs, table.rows.iter().find(|row| row.text_pair.is_none())) {
        let reason = format!(
            "line {} has one text, expected two: name the columns with --text-column and --pair-column",
            row.line
        );
        return Err(Error::content(path, reason));
    }
    let labels: Option<Vec<Label>> = table.rows.iter().map(|row| row.expected.map(Label::from)).collect();
    let samples = table.rows.into_iter().map(|row| Sample::Text(row.text, row.text_pair)).collect();
    Ok(Data { samples, labels, notes: table.notes, num_held_back: 0 })
}

fn with_optional_labels(table: Table) -> Table<Option<Expected>> {
    let rows = table.rows.into_iter().map(|row| {
        let Row { line, text, text_pair, expected } = row;
        Row { line, text, text_pair, expected: Some(expected) }
    });
    Table { rows: rows.collect(), notes: table.notes }
}

fn limit(columns: &ColumnArgs) -> usize {
    columns.limit.map_or(usize::MAX, |limit| limit as usize)
}

/// One text a line.
fn lines(columns: &ColumnArgs, path: &Path, bytes: &[u8]) -> Result<Table<Option<Expected>>> {
    let text = text::decode(&path.display().to_string(), bytes)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(line, text)| Row { line, text: text.to_owned(), text_pair: None, expected: None });
    let rows: Vec<_> = rows.take(limit(columns)).collect();
    match rows.is_empty() {
        true => Err(Error::content(path, "no texts: expected one a line")),
        false => Ok(Table { rows, notes: Vec::new() }),
    }
}

impl From<Expected> for Label {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Label(label) => Self::Class(label),
            Expected::Value(value) => Self::Value(value),
        }
    }
}

impl Sample {
    /// Runs something on the input as the engine takes it.
    pub fn with_input<T>(&self, run: impl FnOnce(&Input<'_>) -> T) -> Result<T> {
        Ok(match self {
            Self::Text(text, Some(pair)) => run(&Input::Pair(text, pair)),
            Self::Text(text, None) => run(&Input::Text(text)),
            Self::Picture(path) => run(&Input::Image(&picture(path)?)),
        })
    }

    /// As the network reads it. With random numbers a picture is cropped and flipped.
    pub fn tokens(&self, model: &Model, index: usize, random: Option<&mut Random>) -> Result<Tokens> {
        if let (Self::Picture(path), Some(random)) = (self, random) {
            let changed = augmented(&picture(path)?, random)?;
            return Ok(tokens(model, index, &Input::Image(&changed))?);
        }
        Ok(self.with_input(|input| tokens(model, index, input))??)
    }
}

/// A part of at least half of a picture, and in half of the cases its mirror image.
fn augmented(picture: &Picture, random: &mut Random) -> Result<Picture> {
    let share = f64::from(random.between(0.5, 1.0)).sqrt();
    let side = |size: usize| ((size as f64 * share) as usize).clamp(1, size);
    let (width, height) = (side(picture.width()), side(picture.height()));
    let left = random.below(picture.width() - width + 1);
    let top = random.below(picture.height() - height + 1);
    let is_mirrored = random.unit() < 0.5;
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let x = if is_mirrored { width - 1 - x } else { x };
            let at = ((top + y) * picture.width() + left + x) * 3;
            rgb.extend(&picture.rgb()[at..at + 3]);
        }
    }
    Ok(Picture::from_rgb(width, height, rgb)?)
}

/// Which samples are for what; none is in two parts.
pub struct Split {
    /// Learned from.
    pub train: Vec<usize>,
    /// Chooses the best state.
    pub validation: Vec<usize>,
    /// For the report alone.
    pub held_back: Vec<usize>,
}

impl Split {
    /// A twentieth chooses, and a tenth is held back unless a file of its own is; each at most so many.
    pub fn new(data: &Data, seed: u64) -> Self {
        let num_samples = data.samples.len() - data.num_held_back;
        let mut order: Vec<usize> = (0..num_samples).collect();
        Random::of(seed, SPLIT).shuffle(&mut order);
        let held_back = match data.num_held_back {
            0 => order.split_off(num_samples - (num_samples / 10).clamp(1, 2000)),
            _ => (num_samples..data.samples.len()).collect(),
        };
        let validation = order.split_off(order.len() - (num_samples / 20).clamp(1, 256));
        Self { train: order, validation, held_back }
    }
}

/// Streams of random numbers.
const SPLIT: u64 = 1;
/// The order of an epoch.
const ORDER: u64 = 2;

/// The batches of an epoch: samples of similar lengths together, in a random order.
pub fn batches(samples: &[usize], lengths: &[usize], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = Random::of(seed, ORDER << 32 | epoch);
    let mut order = samples.to_vec();
    random.shuffle(&mut order);
    let mut batches = Vec::new();
    for group in order.chunks_mut(32 * batch_size) {
        group.sort_by_key(|&sample| lengths[sample]);
        batches.extend(group.chunks(batch_size).map(<[usize]>::to_vec));
    }
    // A short batch at the end of a group would count as much as a whole one.
    if batches.len() > 1 {
        batches.retain(|batch| batch.len() == batch_size);
    }
    random.shuffle(&mut batches);
    batches
}
