//! Finding a model folder and reading its files.

use std::path::{Path, PathBuf};

use sttabt::{Model, ModelFiles, Preprocessor};

use super::args::ModelArgs;
use super::{Failure, Result, note};

/// The models that work on a fresh clone.
const TEXT_MODEL: &str = "models/sst2-minilm";
const IMAGE_MODEL: &str = "models/deit-tiny";
/// And a cross-encoder, where it is.
const RANK_MODEL: &str = "models/rerank-minilm-l12";

/// What there is to classify, which decides the default model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Images,
    /// Passages, with a query.
    Rank,
}

/// `--model`, else `STTABT_MODEL`, else the default below the working directory, the executable's or a folder above one of them.
pub fn find(args: &ModelArgs, kind: Kind) -> Result<PathBuf> {
    let default = match kind {
        Kind::Text => TEXT_MODEL,
        Kind::Images => IMAGE_MODEL,
        Kind::Rank => RANK_MODEL,
    };
    if let Some((path, by)) = named(args) {
        return if path.is_dir() {
            Ok(path)
        } else {
            Err(Failure::Error(format!("no model folder at {} (given by {by}){}", path.display(), hint(&path))))
        };
    }
    nearest(default, Path::is_dir).map_err(|looked_at| {
        let places: Vec<String> = looked_at.iter().map(|path| format!("  {}", path.display())).collect();
        let places = places.join("\n");
        let message = "no model: --model and STTABT_MODEL are not given, and there is no folder at";
        let way_out = match kind {
            Kind::Rank => {
                "\ngive --model a folder with a cross-encoder, for example cross-encoder/ms-marco-MiniLM-L12-v2"
            }
            Kind::Text | Kind::Images => "",
        };
        Failure::Error(format!("{message}\n{places}{way_out}"))
    })
}

/// What is likely meant by a path that is no folder.
fn hint(path: &Path) -> String {
    let text = path.to_string_lossy();
    let repository = text.strip_prefix("https://huggingface.co/").unwrap_or(&text).trim_end_matches('/');
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    let is_name = repository.split('/').count() <= 2 && repository.split('/').all(is_part);
    match path.parent() {
        Some(folder) if path.is_file() => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            format!(": it is a file; name its folder, {}", folder.display())
        }
        _ if is_name => {
            format!(
                ": nothing is downloaded here; if this is a model of the hub, run `hf download {repository} --local-dir DIR` and name DIR"
            )
        }
        _ => String::new(),
    }
}

/// The folder that was asked for, and by what.
pub fn named(args: &ModelArgs) -> Option<(PathBuf, &'static str)> {
    let argument = args.model.clone().map(|path| (path, "--model"));
    argument.or_else(|| std::env::var_os("STTABT_MODEL").map(|path| (path.into(), "STTABT_MODEL")))
}

/// A path of the repository, below the working directory, the executable's or a folder above one of them; else all places that were
/// looked at.
pub fn nearest(path: &str, is_it: impl Fn(&Path) -> bool) -> std::result::Result<PathBuf, Vec<PathBuf>> {
    let executable = std::env::current_exe().ok();
    let starts = [std::env::current_dir().ok(), executable.and_then(|path| path.parent().map(Path::to_owned))];
    let folders = starts.iter().flatten().flat_map(|start| start.ancestors());
    let mut looked_at = Vec::new();
    for candidate in folders.map(|folder| folder.join(path)) {
        if is_it(&candidate) {
            return Ok(candidate);
        }
        if !looked_at.contains(&candidate) {
            looked_at.push(candidate);
        }
    }
    Err(looked_at)
}

/// Reads and checks the model in a folder. Says on stderr what is taken for a missing `preprocessor_config.json`.
pub fn load(folder: &Path) -> Result<Model> {
    let files = ModelFiles::from_dir(folder)?;
    let model = Model::from_bytes(files).map_err(|error| Failure::Error(format!("{}: {error}", folder.display())))?;
    if model.preprocessor().is_some_and(Preprocessor::is_default) {
        note(&format!(
            "no preprocessor_config.json in {}: images are resized to the model's size (bilinear), with mean and deviation 0.5",
            folder.display()
        ));
    }
    Ok(model)
}

pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Error(format!("cannot read {}: {error}", path.display()))
}
