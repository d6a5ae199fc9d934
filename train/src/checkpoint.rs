//! The state of a training in one file, which is whole or not there.
//!
//! A file is written under another name, synchronised, and then renamed. A kill at any moment leaves the last one as it was.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::read;
use crate::optimizer::{AdamW, Moments};
use crate::parameters::Parameters;

/// All but the tensors.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Progress {
    /// What was asked for: a run goes on only under the same settings.
    pub settings: serde_json::Value,
    /// Steps of each stage.
    pub plan: Vec<usize>,
    /// The stage that goes on.
    pub stage: usize,
    /// Its steps so far.
    pub step: usize,
    /// Steps of the optimiser.
    pub optimizer_steps: u64,
    /// The smallest loss on the validation samples in this stage.
    pub best: Option<f64>,
    /// Bytes of the log that belong to it.
    pub log_bytes: u64,
}

impl Progress {
    /// The stages that had steps, and how many.
    pub fn done<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<(String, usize)> {
        let steps = self.plan.iter().enumerate().map(|(at, &steps)| match at.cmp(&self.stage) {
            Ordering::Less => steps,
            Ordering::Equal => self.step,
            Ordering::Greater => 0,
        });
        let stages = names.into_iter().map(str::to_owned).zip(steps);
        stages.filter(|(_, steps)| *steps > 0).collect()
    }
}

/// Writes a file whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part).map_err(Error::file("write", &part))?;
    file.write_all(bytes).map_err(Error::file("write", &part))?;
    file.sync_all().map_err(Error::file("write", &part))?;
    fs::rename(&part, path).map_err(Error::file("write", path))?;
    // The name itself is on the disk once its folder is.
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The only file's name.
const FILE: &str = "state.safetensors";

/// Where checkpoints of a run are.
#[derive(Clone)]
pub struct Checkpoints(PathBuf);

impl Checkpoints {
    /// Below a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Whether there is one.
    pub fn exist(&self) -> bool {
        self.0.join(FILE).exists()
    }

    /// Replaces the checkpoint. `best` are the values with the smallest validation loss so far.
    pub fn write(
        &self,
        progress: &Progress,
        parameters: &Parameters,
        optimizer: &AdamW,
        best: &[Option<TensorData>],
    ) -> Result<()> {
        let mut tensors: Vec<(String, TensorData)> = Vec::new();
        for (at, parameter) in parameters.list.iter().enumerate() {
            let value = parameter.value.try_to_data().map_err(|error| Error::Device(error.to_string()))?;
            tensors.push((format!("value/{}", parameter.name), value));
            if let Some(best) = best.get(at).and_then(Option::as_ref) {
                tensors.push((format!("best/{}", parameter.name), best.clone()));
            }
            if let Some(moments) = &optimizer.moments[at] {
                tensors.push((format!("first/{}", parameter.name), moments.first.clone()));
                tensors.push((format!("second/{}", parameter.name), moments.second.clone()));
            }
        }
        let path = self.0.join(FILE);
        fs::create_dir_all(&self.0).map_err(Error::file("write", &self.0))?;
        let num_bytes: usize = tensors.iter().map(|(_, data)| data.as_bytes().len()).sum();
        let available = fs4::available_space(&self.0).map_err(Error::file("look at", &self.0))?;
        if available < num_bytes as u64 + (1 << 20) {
            let reason = format!(
                "{:.1} MB are free and a checkpoint has {:.1} MB: make room, then go on with --resume",
                available as f64 / 1e6,
                num_bytes as f64 / 1e6
            );
            return Err(Error::content(&self.0, reason));
        }
        let view = |(name, data): &(String, TensorData)| -> Result<(String, Vec<u8>, usize)> {
            Ok((name.clone(), data.as_bytes().to_vec(), data.num_elements()))
        };
        let tensors: Vec<(String, Vec<u8>, usize)> = tensors.iter().map(view).collect::<Result<_>>()?;
        let views = tensors
            .iter()
            .map(|(name, bytes, len)| Ok((name.as_str(), TensorView::new(Dtype::F32, vec![*len], bytes)?)));
        let wrong = |error: safetensors::SafeTensorError| Error::content(&path, error.to_string());
        let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(wrong)?;
        let progress = serde_json::to_string(progress).map_err(|error| Error::content(&path, error.to_string()))?;
        let metadata = HashMap::from([("progress".to_owned(), progress)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(wrong)?;
        write_whole(&path, &bytes)
    }

    /// Reads the checkpoint into parameters that were made as those of the run, and an optimiser without moments.
    pub fn read(
        &self,
        parameters: &mut Parameters,
        optimizer: &mut AdamW,
    ) -> Result<(Progress, Vec<Option<TensorData>>)> {
        let path = self.0.join(FILE);
        let bytes = read(&path)?;
        let wrong = |error: safetensors::SafeTensorError| Error::content(&path, error.to_string());
        let file = SafeTensors::deserialize(&bytes).map_err(wrong)?;
        let progress = self.progress()?;
        let values = |name: String| -> Option<TensorData> {
            let tensor = file.tensor(&name).ok()?;
            let (chunks, _) = tensor.data().as_chunks::<4>();
            let values: Vec<f32> = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            let len = values.len();
            Some(TensorData::new(values, [len]))
        };
        let mut best = Vec::new();
        for (at, parameter) in parameters.list.iter_mut().enumerate() {
            let value = values(format!("value/{}", parameter.name))
                .filter(|value| value.num_elements() == parameter.shape.iter().product::<usize>());
            let missing = || Error::content(&path, format!("`{}` is missing, or has another size", parameter.name));
            let place = &parameters.place;
            parameter.value = Tensor::from_data(value.ok_or_else(missing)?, (&place.device, place.dtype));
            let moments = values(format!("first/{}", parameter.name)).zip(values(format!("second/{}", parameter.name)));
            optimizer.moments[at] = moments.map(|(first, second)| Moments { first, second });
            best.push(values(format!("best/{}", parameter.name)));
        }
        optimizer.num_steps = progress.optimizer_steps;
        Ok((progress, best))
    }

    /// Only how far it is.
    pub fn progress(&self) -> Result<Progress> {
        let path = self.0.join(FILE);
        let bytes = read(&path)?;
        let wrong = |reason: String| Error::content(&path, reason);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
        let progress = metadata.metadata().as_ref().and_then(|metadata| metadata.get("progress"));
        let progress = progress.ok_or_else(|| wrong("not a checkpoint of this program".to_owned()))?;
        serde_json::from_str(progress).map_err(|error| wrong(error.to_string()))
    }
}
