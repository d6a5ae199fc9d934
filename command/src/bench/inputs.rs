//! What is timed: labelled texts, images, or inputs made for the model.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use sttabt::{Classification, Engine, Error, ImageConfig, Input, InputConfig, Outputs, Picture, Prune};

use super::args::RunArgs;
use crate::command::table::{Row, read};
use crate::command::{Failure, Result, images, text_input};

/// Words that made texts consist of.
const NUM_WORDS: usize = 64;
/// The lengths that are timed when none is asked for.
const DEFAULT_TOKENS: [usize; 3] = [32, 128, 512];

/// Where inputs come from.
pub enum Inputs {
    /// Rows of a file.
    Rows(PathBuf, Vec<Row>),
    /// Image files with their labels.
    Files(Vec<(PathBuf, Option<usize>)>),
    /// Texts of this many tokens.
    Words(Vec<String>, usize),
    /// One picture of noise, of the size that the model reads.
    Noise(Picture),
}

/// One batch, ready to be classified.
pub struct Batch {
    texts: Vec<(String, Option<String>)>,
    pictures: Vec<Picture>,
    /// Where each comes from, for messages.
    names: Vec<String>,
    pub labels: Vec<Option<usize>>,
}

impl Inputs {
    /// All that the arguments ask for: one for a data set, else one for every length.
    pub fn read(args: &RunArgs, engine: &mut Engine) -> Result<Vec<Self>> {
        let config = engine.model().config().clone();
        if let Some(path) = &args.data {
            return Ok(vec![Self::Rows(path.clone(), read(&args.columns, path, &config)?)]);
        }
        if let Some(images) = &args.images {
            return Ok(vec![Self::Files(image_files(images, args, engine)?)]);
        }
        match &config.input {
            InputConfig::Image(_) if !args.tokens.is_empty() => {
                Err(Failure::Usage("--tokens is for texts, and this model classifies images".to_owned()))
            }
            InputConfig::Image(image) => Ok(vec![Self::Noise(noise(image)?)]),
            InputConfig::Text(text) => {
                let max_tokens = text.max_position_embeddings;
                let lengths: Vec<usize> = match args.tokens.as_slice() {
                    [] => DEFAULT_TOKENS.into_iter().filter(|&tokens| tokens <= max_tokens).collect(),
                    tokens => tokens.iter().map(|&tokens| tokens as usize).collect(),
                };
                if let Some(tokens) = lengths.iter().find(|&&tokens| tokens > max_tokens) {
                    let message = format!("--tokens {tokens}: this model takes at most {max_tokens}");
                    return Err(Failure::Usage(message));
                }
                let words = words(engine, text.vocab_size)?;
                Ok(lengths.into_iter().map(|tokens| Self::Words(words.clone(), tokens)).collect())
            }
        }
    }

    /// Rounds after which every input has been seen, if there is a set of them.
    pub fn num_rounds(&self, batch: usize) -> Option<usize> {
        match self {
            Self::Rows(_, rows) => Some(rows.len().div_ceil(batch)),
            Self::Files(files) => Some(files.len().div_ceil(batch)),
            Self::Words(..) | Self::Noise(_) => None,
        }
    }

    /// The batch of a round.
    pub fn batch(&self, round: usize, size: usize) -> Result<Batch> {
        let mut batch = Batch { texts: Vec::new(), pictures: Vec::new(), names: Vec::new(), labels: Vec::new() };
        match self {
            Self::Rows(path, rows) => {
                for row in rows.chunks(size).nth(round).unwrap_or_default() {
                    batch.texts.push((row.text.clone(), row.text_pair.clone()));
                    batch.labels.push(row.expected.label());
                    batch.names.push(format!("{}, line {}", path.display(), row.line));
                }
            }
            Self::Files(files) => {
                for (file, label) in files.chunks(size).nth(round).unwrap_or_default() {
                    batch.pictures.push(images::picture(file)?);
                    batch.labels.push(*label);
                    batch.names.push(file.display().to_string());
                }
            }
            Self::Words(words, num_tokens) => {
                for sample in 0..size {
                    // Not the same words in every sample, so that samples do not keep the same places.
                    let text: Vec<&str> =
                        words.iter().cycle().skip(7 * sample).take(num_tokens - 2).map(String::as_str).collect();
                    batch.texts.push((text.join(" "), None));
                }
            }
            Self::Noise(picture) => batch.pictures = vec![picture.clone(); size],
        }
        Ok(batch)
    }
}

impl Batch {
    /// These texts and images, without labels.
    pub fn of(texts: Vec<String>, files: &[PathBuf]) -> Result<Self> {
        let mut batch = Self { texts: Vec::new(), pictures: Vec::new(), names: Vec::new(), labels: Vec::new() };
        batch.names = files.iter().map(|file| file.display().to_string()).collect();
        batch.texts = texts.into_iter().map(|text| (text, None)).collect();
        batch.pictures = files.iter().map(|file| images::picture(file)).collect::<Result<_>>()?;
        Ok(batch)
    }

    pub fn inputs(&self) -> Vec<Input<'_>> {
        let texts = self.texts.iter().map(|(text, pair)| text_input(text, pair.as_deref()));
        texts.chain(self.pictures.iter().map(Input::Image)).collect()
    }

    /// The engine counts the inputs of a batch; people know lines and files.
    pub fn name(&self, error: Error) -> Failure {
        match error {
            Error::Input { index, reason } if index < self.names.len() => {
                Failure::Error(format!("{}: {reason}", self.names[index]))
            }
            other => other.into(),
        }
    }
}

/// With labels if the folder has one folder per class.
fn image_files(folder: &Path, args: &RunArgs, engine: &Engine) -> Result<Vec<(PathBuf, Option<usize>)>> {
    let is_class = |entry: DirEntry| entry.path().is_dir() && !images::is_hidden(&entry.file_name());
    let has_classes = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_class)));
    if has_classes {
        let labelled = images::labelled(&args.columns, folder, engine.model().config())?;
        return Ok(labelled.into_iter().map(|(file, label)| (file, Some(label))).collect());
    }
    let limit = args.columns.limit.map_or(usize::MAX, |limit| limit as usize);
    let files = images::files(&[folder.to_owned()])?;
    Ok(files.into_iter().take(limit).map(|file| (file, None)).collect())
}

/// The same noise on every machine (xorshift), in the size that the model reads.
fn noise(config: &ImageConfig) -> Result<Picture> {
    let [height, width] = config.image_size;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    Ok(Picture::from_rgb(width, height, (0..width * height * 3).map(|_| byte()).collect())?)
}

/// The first words of the model's vocabulary that are one token each, at the start of a text and after a space.
fn words(engine: &mut Engine, vocab_size: usize) -> Result<Vec<String>> {
    let is_word = |word: &String| {
        let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
        word.len() > 1 && word.chars().all(is_plain) && word.starts_with(|char: char| char.is_ascii_lowercase())
    };
    let tokens = (0..vocab_size as u32).filter_map(|id| engine.model().token(id));
    // How byte-level and Unigram vocabularies write the space before a word.
    let candidates = tokens.map(|token| token.trim_start_matches(['Ġ', '▁']).to_owned()).filter(is_word);
    let candidates: Vec<String> = candidates.take(4 * NUM_WORDS).collect();
    let twice: Vec<String> = candidates.iter().map(|word| format!("{word} {word}")).collect();
    let inputs: Vec<Input<'_>> = twice.iter().map(|text| Input::Text(text)).collect();
    let results = pollster::block_on(run_model(engine, &inputs, &Prune::Dense))?;
    let is_one = |result: &Classification| result.tokens.len() == 4;
    let words = candidates.into_iter().zip(&results).filter(|(_, result)| is_one(result));
    let words: Vec<String> = words.map(|(word, _)| word).take(NUM_WORDS).collect();
    if words.is_empty() {
        let message = "no word of the model's vocabulary is one token; give texts with --data";
        return Err(Failure::Error(message.to_owned()));
    }
    Ok(words)
}

/// Labels, or of an embedder vectors.
pub async fn run_model(engine: &mut Engine, inputs: &[Input<'_>], rule: &Prune) -> sttabt::Result<Vec<Classification>> {
    match engine.model().pooling() {
        Some(_) => engine.embed(inputs, rule, &Outputs::default()).await,
        None => engine.classify(inputs, rule, &Outputs::default()).await,
    }
}
