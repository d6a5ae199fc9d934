//! Model folders on disk: the one place in the library that opens files.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::Path;

use super::family::{Asked, read_config};
use super::files::{KnownFiles, MODULES};
use super::mapped::MappedFile;
use super::{Bytes, ModelFiles};
use crate::error::{Error, Result};

/// Weights of other programs, for a message.
const FOREIGN: [&str; 4] = ["tf_model.h5", "flax_model.msgpack", "onnx", "model.onnx"];

impl ModelFiles {
    /// The files of a model folder that a model may have. Others may lie there too. Nothing is checked yet.
    ///
    /// Weights are mapped, not read, so that memory does not hold them twice. Of a `pytorch_model.bin` the tensors are read, and stand
    /// under its name as safetensors.
    ///
    /// ```
    /// use sttabt::{Model, ModelFiles};
    /// let model = Model::from_bytes(ModelFiles::from_dir("tests/fixtures/tiny-bert")?)?;
    /// assert!(model.has_approx_net());
    /// # Ok::<(), sttabt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Read`] names the file that is missing or cannot be read, [`Error::File`] a `pytorch_model.bin` that is broken.
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let KnownFiles { networks, config, weights, vocabularies, others, .. } = Self::KNOWN;
        // ApproxNet may be missing, but not a part of it.
        let networks = networks
            .iter()
            .filter(|network| network.is_empty() || is_there(&folder.join(network.trim_end_matches('/'))));
        let mut names: Vec<String> = [vocabularies, others].concat().into_iter().map(str::to_owned).collect();
        for network in networks {
            let config = format!("{network}{config}");
            let path = folder.join(&config);
            check_link(&path)?;
            File::open(&path).map_err(|error| no_config(&path, &error))?;
            names.extend(weights.iter().map(|name| format!("{network}{name}")));
            if !weights.iter().any(|name| is_there(&folder.join(network).join(name))) {
                let no_weights = no_weights(&folder.join(network.trim_end_matches('/')));
                return Err(refusal(&config, open(folder, &config)?.as_ref(), folder).unwrap_or(no_weights));
            }
            names.push(config);
        }
        names.retain(|name| is_there(&folder.join(name)));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut names: VecDeque<String> = Self::of_use(&names).into_iter().map(str::to_owned).collect();
        let mut files = Self::new();
        while let Some(name) = names.pop_front() {
            let bytes = open(folder, &name)?;
            let named = Self::named_by(&name, bytes.as_ref()).into_iter();
            names.extend(named.filter(|name| files.get(name).is_none() && is_there(&folder.join(name))));
            files.insert(name, bytes);
        }
        Ok(files)
    }
}

/// A link is there even where its file is not: a setting in it must not be skipped.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn open(folder: &Path, name: &str) -> Result<Bytes> {
    let path = folder.join(name);
    check_is_file(&path)?;
    #[cfg(feature = "bin")]
    if name.ends_with(".bin")
        && let Some(bytes) = super::torch::read(&path, name)?
    {
        return Ok(bytes.into());
    }
    if name.ends_with(".bin") || name.ends_with(".safetensors") { map(&path) } else { read(&path).map(Bytes::Owned) }
}

/// That no weights would help.
fn refusal(config: &str, json: &[u8], folder: &Path) -> Option<Error> {
    let asked = Asked { embedding: folder.join(MODULES).exists(), preprocessor: None };
    read_config(config, json, asked).err().filter(|error| matches!(error, Error::Refused { .. }))
}

/// A folder of PEFT's holds what was trained, and not the model.
fn no_config(path: &Path, error: &std::io::Error) -> Error {
    if path.with_file_name("adapter_config.json").exists() {
        let way_out = "load both with PEFT, and save what `merge_and_unload` gives";
        return unreadable(path, &format!("{error}; the folder holds adapters alone, without their model: {way_out}"));
    }
    unreadable(path, error)
}

fn no_weights(folder: &Path) -> Error {
    let [first, others @ ..] = ModelFiles::KNOWN.weights else { return unreadable(folder, &"no weights") };
    let mut reason = format!("it is not there, and neither is {}", others.join(", "));
    if let Some(foreign) = FOREIGN.iter().find(|name| folder.join(name).exists()) {
        reason += &format!("; {foreign} is of another program: save the model with PyTorch's `save_pretrained`");
    }
    unreadable(&folder.join(first), &reason)
}

fn unreadable(path: &Path, error: &dyn ToString) -> Error {
    Error::Read { file: path.display().to_string(), reason: error.to_string() }
}

/// A folder in a file's place can be opened, and gives nothing. A cache that was copied in part has links to what is not there.
fn check_is_file(path: &Path) -> Result<()> {
    if path.is_dir() { Err(unreadable(path, &"it is a folder, expected a file")) } else { check_link(path) }
}

fn check_link(path: &Path) -> Result<()> {
    if path.is_symlink() && !path.exists() {
        return Err(unreadable(path, &"it is a link, and the file that it names is gone: download it again"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    MappedFile::new(&file).map(Bytes::Mapped).map_err(|error| unreadable(path, &error))
}
