//! The files of a model folder, by name.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use super::download::what_it_is;
use super::json;
#[cfg(feature = "files")]
use super::mapped::MappedFile;
use crate::error::{Error, Result};

/// The bytes of a file.
pub enum Bytes {
    /// In memory of their own, which is freed bit by bit where nothing needs it any more.
    Owned(Vec<u8>),
    /// Whatever else keeps them.
    Shared(Box<dyn AsRef<[u8]> + Send + Sync>),
    /// A file that is mapped.
    #[cfg(feature = "files")]
    Mapped(MappedFile),
}

impl Bytes {
    /// Gives back the memory of mapped bytes that nobody needs soon. They are still there: reading them fetches them again.
    pub(super) fn release(&self, bytes: Range<usize>) {
        #[cfg(feature = "files")]
        if let Self::Mapped(file) = self {
            file.release(bytes);
        }
        #[cfg(not(feature = "files"))]
        let _ = bytes;
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
            #[cfg(feature = "files")]
            Self::Mapped(file) => file.as_ref(),
        }
    }
}

/// The names of files that can be of use; see [`ModelFiles::KNOWN`].
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct KnownFiles {
    /// The folders of networks: the model's own, which has no name, and ApproxNet's.
    pub networks: &'static [&'static str],
    /// In each of them.
    pub config: &'static str,
    /// The forms of a network's weights; the first one that is there counts.
    pub weights: &'static [&'static str],
    /// What `tokenizer.json` replaces.
    pub vocabularies: &'static [&'static str],
    /// The others.
    pub others: &'static [&'static str],
}

/// What sentence-transformers calls its list of a model's parts.
pub(super) const MODULES: &str = "modules.json";
/// And of the prompts.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

/// The files of a model folder, by their names in it: `config.json`, `model.safetensors`, `approx/config.json`, …
///
/// Where the bytes come from does not matter. [`Model::from_bytes`](super::Model::from_bytes) takes those that it knows
/// and leaves the others alone.
#[derive(Default)]
pub struct ModelFiles(BTreeMap<String, Bytes>);

impl ModelFiles {
    /// All names that mean something without another file. What is in the files names more: [`ModelFiles::named_by`].
    pub const KNOWN: KnownFiles = KnownFiles {
        networks: &["", "approx/"],
        config: "config.json",
        weights: &[
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        ],
        vocabularies: &[
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            // Of other tokenizers, for a message.
            "sentencepiece.bpe.model",
            "spiece.model",
            "tokenizer.model",
            "spm.model",
        ],
        others: &[
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "preprocessor_config.json",
            "processor_config.json",
            // sentence-transformers' settings of a tokenizer; the first one counts, beside its list of modules.
            "sentence_bert_config.json",
            "sentence_roberta_config.json",
            "sentence_distilbert_config.json",
            "sentence_camembert_config.json",
            "sentence_xlm-roberta_config.json",
            PROMPTS,
            MODULES,
        ],
    };

    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Bytes>) {
        self.0.insert(name.into(), bytes.into());
    }

    /// A file's bytes.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        self.0.remove(name)
    }

    /// Takes the files of a folder out; their names lose it.
    pub fn remove_folder(&mut self, folder: &str) -> Self {
        let is_in = |name: &str| name.strip_prefix(folder).and_then(|name| name.strip_prefix('/')).map(str::to_owned);
        let names: Vec<_> = self.0.keys().filter_map(|name| Some((name.clone(), is_in(name)?))).collect();
        Self(names.into_iter().filter_map(|(name, short)| Some((short, self.0.remove(&name)?))).collect())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a file of this name can be of use, whatever the others are.
    pub fn is_known(name: &str) -> bool {
        let KnownFiles { config, weights, vocabularies, others, .. } = Self::KNOWN;
        let (_, short) = in_network(name);
        short == config || weights.contains(&short) || [vocabularies, others].concat().contains(&name)
    }

    /// Those of a folder's names that a model is read from. Further ones are named by what is in these: [`ModelFiles::named_by`].
    pub fn wanted<'a>(names: &[&'a str]) -> Vec<&'a str> {
        let is_replaced = |name: &str| names.contains(&"tokenizer.json") && Self::KNOWN.vocabularies.contains(&name);
        Self::of_use(names).into_iter().filter(|name| !is_replaced(name)).collect()
    }

    /// The known ones of these names, and of each network's weights one form.
    pub(super) fn of_use<'a>(names: &[&'a str]) -> Vec<&'a str> {
        let weights = Self::KNOWN.weights;
        let is_first = |name: &str| {
            let (folder, short) = in_network(name);
            let form = weights.iter().position(|form| *form == short).unwrap_or(0);
            !weights[..form].iter().any(|better| names.contains(&&*format!("{folder}{better}")))
        };
        names.iter().copied().filter(|name| Self::is_known(name) && is_first(name)).collect()
    }

    /// Whether what is in a file of this name may name others.
    pub fn names_others(name: &str) -> bool {
        name == MODULES || name.ends_with(".index.json") && Self::is_known(name)
    }

    /// The files that one names: the shards of an index, the settings of `modules.json`. None of them is outside of the folder.
    pub fn named_by(name: &str, bytes: &[u8]) -> Vec<String> {
        if !Self::names_others(name) {
            return Vec::new();
        }
        let (folder, is_index) = (in_network(name).0, name != MODULES);
        // What is wrong with a file is said by whoever needs it.
        let mut named: Vec<String> = match json::parse(bytes).unwrap_or_default() {
            Value::Object(index) if is_index => {
                let shards = index.get("weight_map").and_then(Value::as_object);
                shards.into_iter().flatten().filter_map(|(_, shard)| Some(shard.as_str()?.to_owned())).collect()
            }
            Value::Array(modules) if !is_index => {
                let paths =
                    modules.iter().filter_map(|module| Some(module.get("path")?.as_str()?.trim_end_matches('/')));
                paths.filter(|path| !path.is_empty()).map(|path| format!("{path}/config.json")).collect()
            }
            _ => Vec::new(),
        };
        named.retain(|name| is_inside(name));
        named.sort();
        named.dedup();
        named.into_iter().map(|name| format!("{folder}{name}")).collect()
    }

    /// A file that must be there. `folder` is for messages alone.
    pub(super) fn required(&mut self, folder: &str, name: &str) -> Result<Bytes> {
        let error = |reason: &str| Error::File { file: format!("{folder}{name}"), reason: reason.to_owned() };
        let bytes = self.remove(name).ok_or_else(|| error("missing"))?;
        match what_it_is(bytes.as_ref()) {
            Some(found) => Err(error(&found)),
            None => Ok(bytes),
        }
    }

    /// [`Error::File`] for a known file that is a git-lfs pointer or a web page. What else is wrong with it, whoever reads it says.
    pub(super) fn check(&self) -> Result<()> {
        let not_itself = |(name, bytes): (&String, &Bytes)| {
            let reason = what_it_is(bytes.as_ref()).filter(|_| Self::is_known(name) && !bytes.as_ref().is_empty())?;
            Some(Error::File { file: name.clone(), reason })
        };
        self.0.iter().find_map(not_itself).map_or(Ok(()), Err)
    }
}

/// The network's folder, and the name in it.
fn in_network(name: &str) -> (&'static str, &str) {
    let mut networks = ModelFiles::KNOWN.networks.iter().rev();
    networks.find_map(|folder| Some((*folder, name.strip_prefix(folder)?))).unwrap_or(("", name))
}

/// Whether a path is one below its folder on every system.
pub(super) fn is_inside(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    path.split('/').all(is_name)
}
