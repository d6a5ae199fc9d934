//! `sttabt-train golden`: the losses, gradients and steps of this crate beside those of the authors' code.

mod compare;
mod runs;

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use clap::Args;
use serde_json::Value;
use sttabt::training::{NetworkValues, TextTokens, Tokens, Which, values};
use sttabt::{Input, InputConfig, Model, ModelFiles, Picture};

use crate::batch::{Batch, Padding};
use crate::error::{Error, Result};
use crate::files::{read, read_json, safetensors_values};
use crate::loss::Label;
use crate::parameters::Place;
use crate::rows::Rows;

/// Arguments of `golden`.
#[derive(Args)]
pub struct GoldenArgs {
    /// A model folder with training.json, training_f64.json or both, and transfer.safetensors
    pub dir: PathBuf,
    /// Only the runs whose name contains this
    #[arg(long)]
    pub only: Option<String>,
}

/// Compares all runs; an error says how many numbers are beyond their limits.
pub fn run(args: &GoldenArgs, device: &Device, mut print: impl FnMut(&str)) -> Result<()> {
    let case = Case::read(&args.dir)?;
    let mut num_beyond = 0;
    let mut num_files = 0;
    let mut in_f32 = None;
    for (file, dtype) in [("training.json", DType::F32), ("training_f64.json", DType::F64)] {
        let path = args.dir.join(file);
        if !path.exists() {
            continue;
        }
        num_files += 1;
        if !device.supports_dtype(dtype) {
            print(&format!("{file}: not run, this device does not compute in {dtype:?}\n"));
            continue;
        }
        print(&format!("{file}, in {dtype:?}\n"));
        let mut numbers = read_json(&path)?;
        match &in_f32 {
            Some(in_f32) => mark_noise(in_f32, &mut numbers),
            None => in_f32 = Some(numbers.clone()),
        }
        let place = Place::new(device.clone(), dtype);
        let samples = case.samples(&args.dir, &numbers)?;
        let golden = runs::Golden { case: &case, samples, numbers: &numbers, place };
        num_beyond += golden.all(args.only.as_deref(), &mut print)?;
    }
    match (num_files, num_beyond) {
        (0, _) => Err(Error::content(&args.dir, "no training.json here, and no training_f64.json")),
        (_, 0) => Ok(()),
        _ => Err(Error::Failed(format!("{num_beyond} numbers are beyond their limits"))),
    }
}

/// Only the f32 file marks gradients whose true value is 0. In f64 they are rounding errors too, of about 1e-16.
fn mark_noise(in_f32: &Value, numbers: &mut Value) {
    let (Some(from), Some(to)) = (in_f32.as_object(), numbers.as_object_mut()) else { return };
    for (key, from) in from {
        let Some(to) = to.get_mut(key) else { continue };
        if key == "gradients" {
            let noisy = from.as_object().into_iter().flatten().filter(|(_, tensor)| tensor["noise"] == true);
            for (name, _) in noisy {
                to[name]["noise"] = Value::Bool(true);
            }
        } else {
            mark_noise(from, to);
        }
    }
}

/// A model and what its training begins with.
pub struct Case {
    model: Model,
    main: NetworkValues,
    approx: NetworkValues,
    transfers: Vec<(String, Vec<f32>)>,
}

/// The inputs of the runs.
pub struct Samples {
    tokens: Vec<Tokens>,
    /// Of images: the patches of each, in f64.
    patches: Vec<Vec<f64>>,
    labels: Vec<Label>,
}

impl Case {
    fn read(dir: &Path) -> Result<Self> {
        let model = Model::from_bytes(ModelFiles::from_dir(dir)?)?;
        let missing = || Error::content(dir.join("approx"), "missing: a golden run trains an ApproxNet");
        let main = values(&model, Which::Main)?.ok_or_else(missing)?;
        let approx = values(&model, Which::ApproxNet)?.ok_or_else(missing)?;
        let path = dir.join("transfer.safetensors");
        let transfers = safetensors_values(&path, &read(&path)?)?;
        Ok(Self { model, main, approx, transfers })
    }

    fn transfer(&self, name: &str) -> Option<Vec<f32>> {
        self.transfers.iter().find(|(found, _)| found == name).map(|(_, values)| values.clone())
    }

    fn samples(&self, dir: &Path, numbers: &Value) -> Result<Samples> {
        let mut samples = Samples { tokens: Vec::new(), patches: Vec::new(), labels: Vec::new() };
        let ids = |value: &Value| -> Vec<u32> {
            value.as_array().into_iter().flatten().filter_map(|id| Some(id.as_u64()? as u32)).collect()
        };
        for (index, sample) in numbers["samples"].as_array().into_iter().flatten().enumerate() {
            if let Some(name) = sample["image"].as_str() {
                let path = dir.join(name);
                let picture = Picture::decode(name, &read(&path)?)?;
                let tokens = sttabt::training::tokens(&self.model, index, &Input::Image(&picture))?;
                samples.patches.push(patches(&self.main, &tokens));
                samples.tokens.push(tokens);
            } else {
                let input_ids = ids(&sample["input_ids"]);
                let mut token_type_ids = ids(&sample["token_type_ids"]);
                token_type_ids.resize(input_ids.len(), 0);
                let tokens = Vec::new();
                samples.tokens.push(Tokens::Text(TextTokens { input_ids, token_type_ids, tokens, truncated: false }));
            }
        }
        let labels = numbers["labels"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        samples.labels = labels.map(|label| Label::Class(label as usize)).collect();
        Ok(samples)
    }
}

/// The values that the library gives a network for a picture are f32; these are the same numbers in f64.
fn patches(network: &NetworkValues, tokens: &Tokens) -> Vec<f64> {
    let (InputConfig::Image(image), Tokens::Patches { picture: Some(picture), .. }) = (network.config.input, tokens)
    else {
        return Vec::new();
    };
    let (size, [rows, columns]) = (image.patch_size, image.grid());
    let mut values = Vec::with_capacity(rows * columns * image.patch_values());
    for patch in 0..rows * columns {
        let (top, left) = (patch / columns * size, patch % columns * size);
        for at in 0..image.patch_values() {
            let (channel, y, x) = (at / (size * size), at / size % size, at % size);
            let pixel = picture.rgb()[((top + y) * picture.width() + left + x) * 3 + channel];
            // Mean and deviation of the fixtures' preprocessor are 0.5.
            values.push((f64::from(pixel) / 255.0 - 0.5) / 0.5);
        }
    }
    values
}

impl Samples {
    fn batch(&self, network: &NetworkValues, padding: Padding, place: &Place) -> Batch {
        let tokens: Vec<&Tokens> = self.tokens.iter().collect();
        let InputConfig::Image(image) = network.config.input else {
            return Batch::new(&tokens, &network.config.input, padding, place);
        };
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let values = self.patches.concat();
        let shape = [values.len() / image.patch_values(), image.patch_values()];
        Batch::of_patches(Rows::padded(&lengths, place), place.tensor(&values, shape))
    }
}
