//! Writes a model folder that the library reads: weights, ApproxNet, thresholds, configs, and what else the source has.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use sttabt::training::{NetworkValues, Part, Which, hugging_face_config, name_of};
use sttabt::{Model, ModelFiles};

use crate::checkpoint::write_whole;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::parameters::Parameters;

/// The number format of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Half the size; the report measures what is written.
    F16,
    /// As trained.
    F32,
}

/// A model to write.
pub struct Written<'a> {
    /// The source.
    pub model: &'a Model,
    /// Its folder.
    pub source: &'a Path,
    /// All values.
    pub parameters: &'a Parameters,
    /// The model's own network.
    pub main: &'a Network,
    /// ApproxNet, and its values' sizes.
    pub approx: Option<(&'a Network, &'a NetworkValues)>,
    /// One for each layer.
    pub p_logits: Option<&'a [f32]>,
    /// Of Learned Token Pruning, one for each layer.
    pub ltp_thresholds: Option<&'a [f32]>,
    /// Of the weights.
    pub format: Format,
}

/// The names of the two files that every folder has.
pub const CONFIG: &str = ModelFiles::KNOWN.config;
pub const WEIGHTS: &str = ModelFiles::KNOWN.weights[0];

impl Written<'_> {
    /// Writes all files; `default_prune` is the rule for those who name none.
    pub fn write(&self, out: &Path, default_prune: Option<&str>) -> Result<()> {
        let files = ModelFiles::from_dir(self.source)?;
        for name in files.names().filter(|name| !is_replaced(name)) {
            let path = out.join(name);
            let folder = path.parent().unwrap_or(out);
            fs::create_dir_all(folder).map_err(Error::file("write", folder))?;
            write_whole(&path, files.get(name).unwrap_or_default())?;
        }
        let source = self.source.join(CONFIG);
        let mut config = hugging_face_config(&source.display().to_string(), files.get(CONFIG).unwrap_or_default())?;
        set_default_prune(&mut config, default_prune);
        fs::create_dir_all(out).map_err(Error::file("write", out))?;
        write_json(&out.join(CONFIG), &config)?;
        let thresholds = self.thresholds(Part::PLogit, self.p_logits);
        let thresholds = thresholds.into_iter().chain(self.thresholds(Part::LtpThreshold, self.ltp_thresholds));
        self.weights(&out.join(WEIGHTS), self.main, "", thresholds.collect())?;
        if let Some((approx, values)) = self.approx {
            let folder = out.join("approx");
            fs::create_dir_all(&folder).map_err(Error::file("write", &folder))?;
            write_json(&folder.join(CONFIG), &approx_config(config, values))?;
            self.weights(&folder.join(WEIGHTS), approx, "approx/", Vec::new())?;
        }
        Ok(())
    }

    fn thresholds(&self, part: Part, values: Option<&[f32]>) -> Vec<(String, f32)> {
        let name = |layer: usize| name_of(self.model, Which::Main, part, layer);
        let values = values.into_iter().flatten().enumerate();
        values.filter_map(|(layer, &value)| Some((name(layer)?, value))).collect()
    }

    fn weights(&self, path: &Path, network: &Network, prefix: &str, thresholds: Vec<(String, f32)>) -> Result<()> {
        let mut tensors = Vec::new();
        for &id in &network.ids {
            let parameter = &self.parameters.list[id];
            let name = parameter.name.strip_prefix(prefix).unwrap_or(&parameter.name).to_owned();
            tensors.push(Stored::new(name, parameter.shape.clone(), &parameter.values()?, self.format));
        }
        let threshold = |(name, value)| Stored::new(name, vec![1], &[value], Format::F32);
        tensors.extend(thresholds.into_iter().map(threshold));
        write_weights(path, &tensors)
    }
}

/// A tensor as it stands in a file.
pub struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// In this format; beyond the range of f16 a tensor stays f32.
    pub fn new(name: String, shape: Vec<usize>, values: &[f32], format: Format) -> Self {
        let fits = values.iter().all(|value| f16::from_f32(*value).is_finite());
        let (dtype, bytes) = match format {
            Format::F16 if fits => (Dtype::F16, values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
            _ => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
        Self { name, dtype, shape, bytes }
    }
}

/// Writes a file of weights.
pub fn write_weights(path: &Path, tensors: &[Stored]) -> Result<()> {
    let wrong = |error: safetensors::SafeTensorError| Error::content(path, error.to_string());
    let mut views = Vec::new();
    for Stored { name, dtype, shape, bytes } in tensors {
        views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(wrong)?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_whole(path, &safetensors::serialize(views, Some(metadata)).map_err(wrong)?)
}

/// What a training writes anew.
pub fn is_replaced(name: &str) -> bool {
    name.starts_with("approx/")
        || name == CONFIG
        || name.ends_with(".safetensors")
        || ModelFiles::KNOWN.weights.contains(&name)
}

/// Changes the rule of a folder that is written already.
pub fn choose_default(out: &Path, default_prune: Option<&str>) -> Result<()> {
    let path = out.join(CONFIG);
    let mut config = hugging_face_config(&path.display().to_string(), &crate::files::read(&path)?)?;
    set_default_prune(&mut config, default_prune);
    write_json(&path, &config)
}

/// Sets the rule for those who name none, or takes it out.
pub fn set_default_prune(config: &mut Map<String, Value>, default_prune: Option<&str>) {
    let ours = config.entry("sttabt").or_insert_with(|| json!({}));
    if let Value::Object(ours) = ours {
        match default_prune {
            Some(rule) => ours.insert("default_prune".to_owned(), rule.into()),
            None => ours.remove("default_prune"),
        };
    }
}

fn approx_config(mut config: Map<String, Value>, values: &NetworkValues) -> Map<String, Value> {
    let [hidden, intermediate] = values.size_keys;
    let sizes = [(hidden, values.config.hidden_size), (intermediate, values.config.intermediate_size)];
    for (key, size) in sizes {
        key.and_then(|key| config.insert(key.to_owned(), size.into()));
    }
    if config.contains_key("embedding_size") {
        config.insert("embedding_size".to_owned(), values.embedding_size.into());
    }
    set_default_prune(&mut config, None);
    config
}

/// Writes a JSON file.
pub fn write_json(path: &Path, object: &Map<String, Value>) -> Result<()> {
    let text = serde_json::to_string_pretty(object).map_err(|error| Error::content(path, error.to_string()))?;
    write_whole(path, format!("{text}\n").as_bytes())
}
