//! What a training reads: texts, pairs of texts, or pictures; labels where a file has them.

use std::path::{Path, PathBuf};

use clap::Args;
use sttabt::training::{Tokens, tokens};
use sttabt::{Input, InputConfig, Model, Picture};

use crate::error::{Error, Result};
use crate::files::read;
use crate::loss::Label;
use crate::random::Random;

/// Where the data is.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub struct DataArgs {
    /// Texts: one a line, or a .tsv or .csv whose header names `sentence` or `text`
    #[arg(long, visible_alias = "data", value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Pairs: two columns separated by a tab, or a header that names `sentence1` and `sentence2`
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Pictures: all in this folder and those below
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
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
}

/// Names of the columns that are known.
const TEXT: [&str; 4] = ["sentence", "text", "sentence1", "question1"];
const PAIR: [&str; 3] = ["sentence2", "text_pair", "question2"];
const LABEL: [&str; 2] = ["label", "score"];
/// Ends of the names of pictures.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

impl Data {
    /// Reads what the arguments name, for a model.
    pub fn read(args: &DataArgs, model: &Model) -> Result<Self> {
        let is_image_model = matches!(model.config().input, InputConfig::Image(_));
        let data = match (&args.texts, &args.pairs, &args.images) {
            (_, _, Some(folder)) => pictures(folder)?,
            (Some(path), _, _) => rows(path, model, false)?,
            (_, Some(path), _) => rows(path, model, true)?,
            _ => return Err(Error::Usage("nothing to train on: give --texts, --pairs or --images".to_owned())),
        };
        if is_image_model != args.images.is_some() {
            let [reads, needs] =
                if is_image_model { ["pictures", "--images DIR"] } else { ["texts", "--texts FILE or --pairs FILE"] };
            return Err(Error::Usage(format!("the model reads {reads}: give {needs}")));
        }
        if data.samples.len() < MIN_SAMPLES {
            let found = data.samples.len();
            let reason =
                format!("{found} samples, expected at least {MIN_SAMPLES} (a tenth is held back for the report)");
            return Err(Error::content(args.path(), reason));
        }
        Ok(data)
    }
}

/// Fewer cannot be split.
const MIN_SAMPLES: usize = 40;

fn pictures(folder: &Path) -> Result<Data> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let path = entry.map_err(Error::file("read", &folder))?.path();
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if PICTURES.contains(&&*ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut notes = Vec::new();
    let mut samples = Vec::new();
    for path in files {
        match picture(&path) {
            Ok(_) => samples.push(Sample::Picture(path)),
            Err(error) => notes.push(format!("skipped: {error}")),
        }
    }
    if !notes.is_empty() {
        notes.push(format!("{} pictures were skipped", notes.len()));
    }
    Ok(Data { samples, labels: None, notes })
}

fn picture(path: &Path) -> Result<Picture> {
    Ok(Picture::decode(&path.display().to_string(), &read(path)?)?)
}

/// The cells of a line.
fn cells(path: &Path, text: &str) -> Result<Vec<Vec<String>>> {
    if path.extension().is_some_and(|ending| ending == "csv") {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let wrong = |error: csv::Error| Error::content(path, error.to_string());
        return reader.records().map(|row| Ok(row.map_err(wrong)?.iter().map(str::to_owned).collect())).collect();
    }
    // GLUE's files have quotes that mean nothing.
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

fn rows(path: &Path, model: &Model, has_pairs: bool) -> Result<Data> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Error::content(path, format!("line {line} is not UTF-8: convert it with `iconv -t UTF-8`"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut rows = cells(path, text)?;
    let first: Vec<String> = rows.first().into_iter().flatten().map(|cell| cell.trim().to_lowercase()).collect();
    let find = |names: &[&str]| names.iter().find_map(|name| first.iter().position(|cell| cell == name));
    let has_header = find(&TEXT).is_some() && (first.len() > 1 || path.extension().is_some_and(|end| end != "txt"));
    let (text_column, pair_column, label_column) = if has_header {
        rows.remove(0);
        (find(&TEXT).unwrap_or(0), find(&PAIR), find(&LABEL))
    } else {
        (0, Some(1), None)
    };
    if has_pairs && has_header && pair_column.is_none() {
        let reason = format!("no column `{}`, expected one of {}", PAIR[0], PAIR.join(", "));
        return Err(Error::content(path, reason));
    }
    let (mut samples, mut labels, mut num_empty) = (Vec::new(), Vec::new(), 0);
    let mut unknown = None;
    for (at, row) in rows.iter().enumerate() {
        let cell = |column: Option<usize>| row.get(column?).map(|cell| cell.trim()).filter(|cell| !cell.is_empty());
        let text = cell(Some(text_column));
        let pair = if has_pairs { cell(pair_column) } else { None };
        let (Some(text), true) = (text, pair.is_some() || !has_pairs) else {
            num_empty += 1;
            continue;
        };
        samples.push(Sample::Text(text.to_owned(), pair.map(str::to_owned)));
        if let Some(column) = label_column {
            match label(model, cell(Some(column)).unwrap_or_default()) {
                Some(label) => labels.push(label),
                None => unknown = unknown.or(Some(at + 2)),
            }
        }
    }
    let mut notes = Vec::new();
    if num_empty > 0 {
        notes.push(format!("{num_empty} lines without a text were left out"));
    }
    if let Some(line) = unknown {
        notes.push(format!("line {line} has a label that the model does not know: all labels are left aside"));
    }
    let labels = (label_column.is_some() && unknown.is_none()).then_some(labels);
    Ok(Data { samples, labels, notes })
}

fn label(model: &Model, cell: &str) -> Option<Label> {
    let names = &model.config().labels;
    if names.len() == 1 {
        return cell.parse().ok().map(Label::Value);
    }
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(cell));
    let index = cell.parse::<usize>().ok().filter(|&index| index < names.len());
    named.or(index).map(Label::Class)
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
    /// A tenth is held back, and a twentieth chooses; each at most so many.
    pub fn new(num_samples: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..num_samples).collect();
        Random::of(seed, SPLIT).shuffle(&mut order);
        let held_back = order.split_off(num_samples - (num_samples / 10).clamp(1, 2000));
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
