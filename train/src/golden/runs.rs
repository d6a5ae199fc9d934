//! The runs of a training.json.

use burn::tensor::Tensor;
use serde_json::Value;
use sttabt::training::{Part, Which, name_of};

use super::compare::{Comparison, numbers, rows};
use super::{Case, Samples};
use crate::batch::{Batch, Padding};
use crate::concrete::{Concrete, Settings as ConcreteSettings};
use crate::distill::{Teacher, Transfers, loss as distil_loss};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::ltp::{Settings as LtpSettings, soft_loss};
use crate::network::{Mode, Network, Wanted};
use crate::optimizer::{AdamW, GradientValues};
use crate::parameters::{Id, Leaves, Parameters, Place};
use crate::recipe::Recipe;

/// All runs of one file.
pub struct Golden<'a> {
    pub case: &'a Case,
    pub samples: Samples,
    pub numbers: &'a Value,
    pub place: Place,
}

/// What a loss gives beside itself.
struct Found {
    loss: Loss,
    others: Vec<(&'static str, Tensor<1>)>,
    logits: Option<Tensor<2>>,
    /// By name, `[N, R]` of each layer.
    tables: Vec<(&'static str, Vec<Tensor<2>>)>,
}

/// The last step at which something is compared.
const LAST_STEP: usize = 5;

impl Golden<'_> {
    /// Compares all runs, and says how many numbers are beyond their limits.
    pub fn all(&self, only: Option<&str>, print: &mut impl FnMut(&str)) -> Result<usize> {
        let mut num_beyond = 0;
        let mut show = |comparison: Comparison| {
            let (text, beyond) = comparison.report();
            print(&text);
            num_beyond += beyond;
        };
        let is_wanted = |name: &str| only.is_none_or(|only| name.contains(only));
        for (kind, padding) in KINDS {
            let name = format!("distill.{kind}");
            if self.numbers["distill"].get(kind).is_some() && is_wanted(&name) {
                show(self.distill(name, kind, padding)?);
            }
        }
        for block in ["concrete", "concrete_low"] {
            for kind in ["soft", "hard", "hard_strong_decay", "soft_image_recipe"] {
                for (_, padding) in self.paddings() {
                    let name =
                        format!("{block}.{kind} ({})", if *padding == Padding::Rows { "padded" } else { "ragged" });
                    if self.numbers[block].get(kind).is_some() && is_wanted(&name) {
                        show(self.concrete(name, block, kind, *padding)?);
                    }
                }
            }
        }
        let soft = self.numbers["ltp_soft"].as_object();
        for (setting, block) in soft.into_iter().flatten() {
            for (kind, padding) in KINDS {
                let name = format!("ltp_soft.{setting}.{kind}");
                if block.get(kind).is_some() && is_wanted(&name) {
                    show(self.ltp(name, block, kind, padding)?);
                }
            }
        }
        Ok(num_beyond)
    }

    /// Images have no padding: one way is enough.
    fn paddings(&self) -> &'static [(&'static str, Padding)] {
        if self.samples.patches.is_empty() { &KINDS } else { &KINDS[..1] }
    }

    fn floor(&self, is_soft: bool, in_f64: f64) -> f64 {
        match (self.is_f64(), is_soft) {
            (true, _) => in_f64,
            (false, true) => 1e-4,
            (false, false) => 1e-5,
        }
    }

    fn is_f64(&self) -> bool {
        self.place.dtype == burn::tensor::DType::F64
    }

    fn batch(&self, padding: Padding) -> Batch {
        self.samples.batch(&self.case.main, padding, &self.place)
    }

    fn main(&self, parameters: &mut Parameters) -> Network {
        Network::new(&self.case.main, "", Some(0), parameters)
    }

    fn student(&self, parameters: &mut Parameters, prefix: &str) -> Result<(Network, Transfers)> {
        let Case { main, approx, .. } = self.case;
        let student = Network::new(approx, prefix, Some(0), parameters);
        let sizes = [main.config.hidden_size, approx.config.hidden_size];
        let transfers = |name: &str| self.case.transfer(name);
        let transfers = Transfers::new(parameters, prefix, student.num_layers(), sizes, transfers);
        let missing = || Error::Failed("transfer.safetensors lacks a tensor".to_owned());
        Ok((student, transfers.ok_or_else(missing)?))
    }

    fn distill(&self, name: String, kind: &str, padding: Padding) -> Result<Comparison> {
        let mut comparison = Comparison::new(name, self.floor(false, 1e-10));
        let settings = &self.numbers["distill"]["settings"];
        let (mut teacher_values, mut parameters) =
            (Parameters::new(self.place.clone()), Parameters::new(self.place.clone()));
        let teacher = self.main(&mut teacher_values);
        let (student, transfers) = self.student(&mut parameters, "")?;
        let batch = self.batch(padding);
        let teacher = Teacher::new(&teacher, &teacher_values.constants(), &batch);
        let recipe = recipe(settings);
        let loss = |leaves: &Leaves| Found {
            loss: distil_loss(&teacher, &student, &transfers, leaves, &batch),
            others: Vec::new(),
            logits: None,
            tables: Vec::new(),
        };
        self.follow(&mut comparison, &self.numbers["distill"][kind], &mut parameters, &recipe, loss)?;
        Ok(comparison)
    }

    fn concrete(&self, name: String, block: &str, kind: &str, padding: Padding) -> Result<Comparison> {
        let mut comparison = Comparison::new(name, self.floor(kind.contains("soft"), 1e-6));
        let (block, run) = (&self.numbers[block], &self.numbers[block][kind]);
        let number = |key: &str| block[key].as_f64().unwrap_or_default();
        let mut parameters = Parameters::new(self.place.clone());
        let main = self.main(&mut parameters);
        let p_logits = self.thresholds(&mut parameters, Part::PLogit, &vec![number("p_logit"); main.num_layers()]);
        let (approx, _) = self.student(&mut parameters, "approx/")?;
        let batch = self.batch(padding);
        // The teacher is the model as it was before the first step.
        let leaves = parameters.constants();
        let pass = main.run(&leaves, &batch, &Mode::Dense, Wanted::default());
        let teacher = main.logits(&leaves, &pass.hidden_states[0], &batch.rows);
        let settings = ConcreteSettings {
            p_logit: number("p_logit"),
            lambda_p: number("lambda_p"),
            lambda_mask: number("lambda_mask"),
            teacher_factor: run["settings"]["teacher_kl_factor"].as_f64().unwrap_or_default(),
            is_hard: kind.contains("hard"),
        };
        let concrete = Concrete { main: &main, approx: &approx, p_logits: &p_logits };
        let loss = |leaves: &Leaves| {
            let outcome = concrete.loss(leaves, &batch, Some(&self.samples.labels), Some(&teacher), &settings);
            Found {
                loss: outcome.loss,
                others: vec![("mean_retention", outcome.mean_retention)],
                logits: Some(outcome.logits),
                tables: vec![("masks", outcome.found.masks), ("c", outcome.found.scores)],
            }
        };
        self.follow(&mut comparison, run, &mut parameters, &recipe(&run["settings"]), loss)?;
        Ok(comparison)
    }

    fn ltp(&self, name: String, block: &Value, kind: &str, padding: Padding) -> Result<Comparison> {
        let mut comparison = Comparison::new(name, self.floor(false, 1e-6));
        let mut parameters = Parameters::new(self.place.clone());
        let network = self.main(&mut parameters);
        let thresholds = self.thresholds(&mut parameters, Part::LtpThreshold, &numbers(&block["thetas"]));
        let batch = self.batch(padding);
        let number = |key: &str| block[key].as_f64().unwrap_or_default();
        let settings = LtpSettings { temperature: number("temperature"), lambda: number("lambda") };
        let loss = |leaves: &Leaves| {
            let outcome = soft_loss(&network, &thresholds, leaves, &batch, &self.samples.labels, &settings);
            let (others, logits) = (Vec::new(), Some(outcome.logits));
            Found { loss: outcome.loss, others, logits, tables: vec![("masks", outcome.masks)] }
        };
        let run = with_dev_of_thresholds(block, kind);
        self.follow(&mut comparison, &run, &mut parameters, &recipe(&block["settings"]), loss)?;
        Ok(comparison)
    }

    fn thresholds(&self, parameters: &mut Parameters, part: Part, values: &[f64]) -> Vec<Id> {
        let add = |(layer, &value): (usize, &f64)| {
            let name = name_of(&self.case.model, Which::Main, part, layer).unwrap_or_default();
            // The authors' name of it.
            let name = name.replace("ltp_threshold", "theta");
            parameters.add(name, &[1], &[value as f32], false)
        };
        values.iter().enumerate().map(add).collect()
    }

    /// Steps, and compares on the way.
    fn follow(
        &self,
        comparison: &mut Comparison,
        run: &Value,
        parameters: &mut Parameters,
        recipe: &Recipe,
        loss: impl Fn(&Leaves) -> Found,
    ) -> Result<()> {
        let mut optimizer = AdamW::new(recipe.groups(parameters), recipe.clip);
        for step in 0..=LAST_STEP {
            let leaves = parameters.leaves();
            let found = loss(&leaves);
            let key = step.to_string();
            if let Some(losses) = run["losses"].get(&key) {
                self.compare_losses(comparison, run, &key, losses, &found)?;
            }
            if step == 0 {
                self.compare_tables(comparison, run, &found)?;
            }
            let gradients = leaves.gradients(found.loss.total.backward());
            drop((leaves, found));
            let gradients = GradientValues::read(parameters, gradients)?;
            if step == 0 {
                compare_gradients(comparison, run, parameters, &gradients)?;
            }
            if let Some(expected) = run["grad_norm"][&key].as_f64() {
                let dev = run["grad_norm_dev"][&key].as_f64().unwrap_or_default();
                comparison.add("grad norm", format!("step {step}"), gradients.norm()?, expected, expected, dev);
            }
            for (name, expected) in run["weights"][&key].as_object().into_iter().flatten() {
                let parameter = parameters.list.iter().find(|parameter| parameter.name == *name);
                let values = parameter.map(|parameter| parameter.in_file_order(&parameter.value)).transpose()?;
                comparison.tensor("weights", &format!("{name} after {step}"), values.as_deref(), expected);
            }
            if step < LAST_STEP {
                optimizer.step(parameters, &gradients, recipe.rate)?;
            }
        }
        Ok(())
    }

    fn compare_losses(
        &self,
        comparison: &mut Comparison,
        run: &Value,
        key: &str,
        losses: &Value,
        found: &Found,
    ) -> Result<()> {
        let total = [("total", found.loss.total.clone())];
        let all: Vec<&(&str, Tensor<1>)> = found.loss.parts.iter().chain(&found.others).chain(&total).collect();
        for (part, expected) in losses.as_object().into_iter().flatten() {
            let expected = expected.as_f64().unwrap_or(f64::NAN);
            let tensor = all.iter().find(|(name, _)| name == part).map(|(_, tensor)| tensor.clone());
            let value = tensor.map(|tensor| tensor.try_into_scalar::<f64>()).transpose();
            let value = value.map_err(|error| Error::Device(error.to_string()))?.unwrap_or(f64::NAN);
            let dev = run["losses_dev"][key][part].as_f64().unwrap_or_default();
            // The square of differences of about 1e-5: to 1e-11.
            let is_tiny = part == "p_regulariser";
            let scale = if is_tiny { expected.abs().max(1e-7) } else { expected.abs() };
            comparison.add("losses", format!("{part} at step {key}"), value, expected, scale, dev);
        }
        Ok(())
    }

    fn compare_tables(&self, comparison: &mut Comparison, run: &Value, found: &Found) -> Result<()> {
        if let (Some(expected), Some(logits)) = (run.get("logits"), &found.logits) {
            let values = table(logits)?;
            for (sample, (expected, found)) in rows(expected).iter().zip(&values).enumerate() {
                let largest = expected.iter().fold(0.0, |largest: f64, logit| largest.max(logit.abs()));
                for (&expected, &found) in expected.iter().zip(found) {
                    comparison.add("logits", format!("of sample {sample}"), found, expected, largest, 0.0);
                }
            }
        }
        for (expected, key) in [(&run["soft_masks"], "masks"), (&run["scores"], "c")] {
            let sample = expected["sample"].as_u64().unwrap_or_default() as usize;
            let Some((_, tables)) = found.tables.iter().find(|(name, _)| *name == key) else { continue };
            for (layer, (expected, found)) in rows(&expected[key]).iter().zip(tables).enumerate() {
                for (at, &expected) in expected.iter().enumerate() {
                    let found = table(found)?.get(sample).and_then(|row| row.get(at)).copied().unwrap_or(f64::NAN);
                    comparison.add(
                        if key == "c" { "scores" } else { "soft masks" },
                        format!("{key}_{layer}[{at}]"),
                        found,
                        expected,
                        1.0,
                        0.0,
                    );
                }
            }
        }
        Ok(())
    }
}

const KINDS: [(&str, Padding); 2] = [("padded", Padding::Rows), ("each_alone", Padding::None)];

fn table(tensor: &Tensor<2>) -> Result<Vec<Vec<f64>>> {
    let width = tensor.dims()[1].max(1);
    let values: Vec<f64> = tensor.try_to_vec_as::<f64>().map_err(|error| Error::Device(error.to_string()))?;
    Ok(values.chunks(width).map(<[f64]>::to_vec).collect())
}

fn compare_gradients(
    comparison: &mut Comparison,
    run: &Value,
    parameters: &Parameters,
    gradients: &GradientValues,
) -> Result<()> {
    for (name, expected) in run["gradients"].as_object().into_iter().flatten() {
        let at = parameters.list.iter().position(|parameter| parameter.name == *name);
        let values = at.map(|at| gradients.values(parameters, at)).transpose()?.flatten();
        comparison.tensor("gradients", name, values.as_deref(), expected);
    }
    let expected = run["no_gradient"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // The authors' layers have thresholds even where nobody uses them.
    let expected: Vec<String> = expected.filter(|name| !name.contains("p_logit")).map(str::to_owned).collect();
    let found: Vec<String> = gradients.missing(parameters).into_iter().map(str::to_owned).collect();
    comparison.names("no gradient", &found, &expected);
    Ok(())
}

/// A run in which the gradient of each threshold has the largest `dev` that any threshold of the block has. A threshold is one number, a sum of
/// large ones of both signs, and `dev` is one draw of its rounding: the authors' are from 2e-7 to 2e-4.
fn with_dev_of_thresholds(block: &Value, kind: &str) -> Value {
    let of_thresholds = |run: &Value| -> Vec<f64> {
        let gradients = run["gradients"].as_object().into_iter().flatten();
        let thresholds = gradients.filter(|(name, one)| name.ends_with("theta") && one["noise"] != true);
        thresholds.filter_map(|(_, one)| one["dev"].as_f64()).collect()
    };
    let largest = KINDS.iter().flat_map(|(kind, _)| of_thresholds(&block[*kind])).fold(0.0, f64::max);
    let mut run = block[kind].clone();
    for (name, gradient) in run["gradients"].as_object_mut().into_iter().flatten() {
        if name.ends_with("theta") {
            gradient["dev"] = largest.into();
        }
    }
    run
}

/// What `settings` of a run says.
fn recipe(settings: &Value) -> Recipe {
    let number = |key: &str| settings[key].as_f64();
    let is_image_recipe = settings["no_decay"].as_str().is_some_and(|text| text.contains("1-D"));
    Recipe {
        rate: number("lr").unwrap_or_default(),
        decay: number("weight_decay").unwrap_or_default(),
        approx_factor: 1.0,
        threshold_factor: number("p_logit_lr_factor").unwrap_or(1.0),
        clip: number("clip_global_norm"),
        decays_matrices_only: is_image_recipe,
        trains_cls_token: !is_image_recipe,
    }
}
