//! Model folders on disk: the one place in the library that opens files.

use std::fs::{self, File};
use std::path::Path;

use super::{Bytes, ModelFiles};
use crate::error::{Error, Result};

/// What some folders have.
const OPTIONAL: &[&str] = &[
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "spm.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
    "preprocessor_config.json",
    "modules.json",
    "1_Pooling/config.json",
];

impl ModelFiles {
    /// The files of a model folder that a model may have. Nothing is checked yet.
    ///
    /// Weights are mapped, not read, so that memory does not hold them twice.
    ///
    /// ```
    /// use sttabt::{Model, ModelFiles};
    /// let model = Model::from_bytes(ModelFiles::from_dir("tests/fixtures/tiny-bert")?)?;
    /// assert!(model.has_approx_net());
    /// # Ok::<(), sttabt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Read`] names the file that is missing or cannot be read.
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut files = Self::new();
        let mut network = |prefix: &str| -> Result<()> {
            let path = |name: &str| folder.join(format!("{prefix}{name}"));
            files.insert(format!("{prefix}config.json"), read(&path("config.json"))?);
            files.insert(format!("{prefix}model.safetensors"), map(&path("model.safetensors"))?);
            Ok(())
        };
        network("")?;
        if folder.join("approx").is_dir() {
            network("approx/")?;
        }
        for name in OPTIONAL {
            let path = folder.join(name);
            if path.exists() {
                files.insert(*name, read(&path)?);
            }
        }
        Ok(files)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Read { file: path.display().to_string(), reason: error.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    // SAFETY: the map is only read. A file that another process truncates meanwhile ends this one with SIGBUS, as
    // with every program that maps its model.
    let map = unsafe { memmap2::Mmap::map(&file) };
    map.map(|map| Bytes::Shared(Box::new(map))).map_err(|error| unreadable(path, &error))
}
