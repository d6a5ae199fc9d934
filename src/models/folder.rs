//! Model folders on disk: the one place in the library that opens files.

use std::fs::{self, File};
use std::path::Path;

use super::{ApproxFiles, Bytes, ModelFiles};
use crate::error::{Error, Result};

impl ModelFiles {
    /// The files of a model folder; see the fields for their names. Nothing is checked yet.
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
        let approx = folder.join("approx");
        let approx = if approx.is_dir() {
            Some(ApproxFiles {
                config: read(&approx.join("config.json"))?,
                weights: map(&approx.join("model.safetensors"))?,
            })
        } else {
            None
        };
        Ok(Self {
            config: read(&folder.join("config.json"))?,
            weights: map(&folder.join("model.safetensors"))?,
            tokenizer_json: read_optional(&folder.join("tokenizer.json"))?,
            vocab_txt: read_optional(&folder.join("vocab.txt"))?,
            tokenizer_config: read_optional(&folder.join("tokenizer_config.json"))?,
            preprocessor_config: read_optional(&folder.join("preprocessor_config.json"))?,
            approx,
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Read { file: path.display().to_string(), reason: error.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    if path.exists() { read(path).map(Some) } else { Ok(None) }
}

fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    // SAFETY: the map is only read. A file that another process truncates meanwhile ends this one with SIGBUS, as
    // with every program that maps its model.
    let map = unsafe { memmap2::Mmap::map(&file) };
    map.map(|map| Bytes::Shared(Box::new(map))).map_err(|error| unreadable(path, &error))
}
