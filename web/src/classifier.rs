//! A model on a device, as the worker drives it: one call at a time, each cancelled by a flag, and a lost device replaced.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use js_sys::{Function, Promise};
use send_wrapper::SendWrapper;
use serde::Serialize;
use sttabt::{
    BackendKind, BackendOptions, Classification, Decision, Engine, Error, Input, Model, Outputs, Policy, PruneMode,
};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::call::{CancelFlag, Inputs, Results};
use crate::error::{from_core, js_error};
use crate::files::ModelBytes;
use crate::json::to_json;

/// A model on a device.
#[wasm_bindgen]
pub struct Classifier {
    pub(crate) engine: Engine,
    kind: BackendKind,
    /// Returns a promise for the worker's next task, so that a cancellation can come in.
    next_task: Function,
    /// Told what a person should know.
    on_note: Function,
    /// The last call of `why`: what it asked for, and the run with its attention maps.
    explained: Option<(String, Classification)>,
    /// What `auto` has measured on this device, for each rule that it was asked for.
    policies: Vec<Policy>,
    /// Runs that a test will have fail.
    losses_due: u32,
}

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now_ms() -> f64;
}

/// What a run gives.
#[derive(Serialize)]
struct Run {
    results: Vec<Classification>,
    /// What `auto` expected.
    decision: Option<Decision>,
}

#[wasm_bindgen]
impl Classifier {
    /// Puts a model on a device: `backend` is `auto`, `gpu` or `cpu`. A GPU must first pass the self-test; with `auto` one
    /// that does not is replaced by the CPU, and `on_note` is told why.
    ///
    /// # Errors
    /// Kind `model` or `device`.
    pub async fn open(
        files: ModelBytes,
        backend: String,
        next_task: Function,
        on_note: Function,
    ) -> Result<Classifier, JsValue> {
        let mut model = files.into_model()?;
        let kind = match backend.as_str() {
            "gpu" => BackendKind::Gpu,
            "cpu" => BackendKind::Cpu,
            "auto" => BackendKind::Auto,
            _ => return Err(js_error("input", &format!("backend `{backend}`: expected auto, gpu or cpu"))),
        };
        let engine = open_engine(&mut model, kind, &next_task, &on_note).await?;
        Ok(Self { engine, kind, next_task, on_note, explained: None, policies: Vec::new(), losses_due: 0 })
    }

    /// The core's `ModelInfo` as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn info(&self) -> Result<String, JsValue> {
        to_json(&self.engine.model().info())
    }

    /// The core's `BackendInfo` as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn backend(&self) -> Result<String, JsValue> {
        to_json(self.engine.backend())
    }

    /// Classifies all inputs in one run, or with `embeds` turns them into vectors: the `results`, in their order, and the `decision` of `auto`.
    ///
    /// # Errors
    /// Kind `input`, `device`, `memory`, or `aborted` when the flag was set.
    pub async fn classify(
        &mut self,
        inputs: Inputs,
        prune: String,
        embeds: bool,
        sigmoid: bool,
        threshold: Option<f32>,
        cancel: &CancelFlag,
    ) -> Result<Results, JsValue> {
        let outputs = Outputs { token_scores: true, attention_maps: false, sigmoid, threshold };
        let mut run = self.run(&inputs, &prune, embeds, &outputs, cancel).await?;
        let pictures = run.results.iter_mut().map(|result| result.picture.take()).collect();
        Ok(Results::new(to_json(&run)?, pictures))
    }

    /// Why a token or patch of the one input survived a layer, or did not; `Why` as JSON. `key` tells inputs with their rules
    /// apart.
    ///
    /// # Errors
    /// As for `classify`.
    pub async fn why(
        &mut self,
        inputs: Inputs,
        prune: String,
        key: String,
        layer: usize,
        position: usize,
    ) -> Result<String, JsValue> {
        if self.explained.as_ref().is_none_or(|(known, _)| *known != key) {
            let outputs = Outputs { token_scores: true, attention_maps: true, sigmoid: false, threshold: None };
            let embeds = self.engine.model().pooling().is_some();
            let mut run = self.run(&inputs, &prune, embeds, &outputs, &CancelFlag::new()).await?;
            self.explained = run.results.pop().map(|result| (key, result));
        }
        let Some((_, result)) = &self.explained else {
            return Err(js_error("internal", "no run to explain"));
        };
        let why = result.why(self.engine.model(), layer, position).map_err(|error| from_core(&error))?;
        to_json(&why)
    }

    /// Loses the GPU as a driver reset would, in the next so many runs, those on a new device included: for tests.
    pub fn lose_device(&mut self, num_runs: u32) {
        self.losses_due = num_runs;
    }
}

impl Classifier {
    /// One run; on a lost device, one more on a new device, and then another.
    async fn run(
        &mut self,
        inputs: &Inputs,
        prune: &str,
        embeds: bool,
        outputs: &Outputs,
        cancel: &CancelFlag,
    ) -> Result<Run, JsValue> {
        let mode: PruneMode = prune.parse().map_err(|error| from_core(&error))?;
        let inputs = inputs.as_core();
        let mut num_losses = 0;
        loop {
            self.lose_if_due();
            let run = run_mode(&mut self.engine, &mut self.policies, &inputs, &mode, embeds, outputs);
            match unless_cancelled(run, cancel).await? {
                Ok(run) => return Ok(run),
                Err(error @ Error::DeviceLost { .. }) => self.replace_device(&error, &mut num_losses).await?,
                Err(error) => return Err(from_core(&error)),
            }
        }
    }

    /// See [`Self::lose_device`].
    pub(crate) fn lose_if_due(&mut self) {
        if self.losses_due > 0 {
            self.losses_due -= 1;
            if let Some(gpu) = self.engine.gpu() {
                gpu.destroy_device();
            }
        }
    }

    /// A new device for one that was lost, unless that has happened too often in this call.
    pub(crate) async fn replace_device(&mut self, error: &Error, num_losses: &mut usize) -> Result<(), JsValue> {
        *num_losses += 1;
        if *num_losses > MAX_LOSSES {
            return Err(js_error("device", &format!("{error}; {MAX_LOSSES} new devices were lost as well")));
        }
        note(&self.on_note, &format!("{error}; computing again on a new device"));
        self.policies.clear();
        let mut model = self.engine.model().clone();
        self.engine = open_engine(&mut model, self.kind, &self.next_task, &self.on_note).await?;
        Ok(())
    }
}

/// What a run gives. One that is cancelled is dropped, and the engine starts afresh with the next call.
pub(crate) async fn unless_cancelled<T>(run: impl Future<Output = T>, cancel: &CancelFlag) -> Result<T, JsValue> {
    let mut run = pin!(run);
    let outcome =
        poll_fn(|context| if cancel.is_set() { Poll::Ready(None) } else { run.as_mut().poll(context).map(Some) });
    outcome.await.ok_or_else(|| js_error("aborted", "aborted"))
}

/// One run under a rule, or under the policy, which is measured when it is first needed.
async fn run_mode(
    engine: &mut Engine,
    policies: &mut Vec<Policy>,
    inputs: &[Input<'_>],
    mode: &PruneMode,
    embeds: bool,
    outputs: &Outputs,
) -> sttabt::Result<Run> {
    let rule = match mode {
        PruneMode::Rule(rule) => rule.clone(),
        PruneMode::Auto(rule) => rule.clone().unwrap_or_else(|| engine.model().default_prune()),
    };
    if rule.is_dense() || matches!(mode, PruneMode::Rule(_)) {
        let results = if embeds {
            engine.embed(inputs, &rule, outputs).await?
        } else {
            engine.classify(inputs, &rule, outputs).await?
        };
        return Ok(Run { results, decision: None });
    }
    let known = policies.iter().position(|policy| *policy.prune() == rule);
    let place = match known {
        Some(place) => place,
        None => {
            policies.push(engine.measure_policy(&rule, &now_ms).await?);
            policies.len() - 1
        }
    };
    let policy = &policies[place];
    let (decision, results) = if embeds {
        engine.embed_by(policy, inputs, outputs).await?
    } else {
        engine.classify_by(policy, inputs, outputs).await?
    };
    Ok(Run { results, decision: Some(decision) })
}

/// New devices after a loss, in one call.
const MAX_LOSSES: usize = 2;

/// An engine, on a GPU only if that passes the self-test; with `Auto` on the CPU where there is no such GPU, and then `on_note` is told.
async fn open_engine(
    model: &mut Model,
    kind: BackendKind,
    next_task: &Function,
    on_note: &Function,
) -> Result<Engine, JsValue> {
    let options = BackendOptions { kind, self_test: true, ..Default::default() };
    // A tab has little memory.
    let mut engine = match Engine::new_compact(model, &options).await {
        Err(error) if kind == BackendKind::Auto => {
            note(on_note, &format!("running on the CPU in WebAssembly: {error}"));
            Engine::new_compact(model, &BackendKind::Cpu.into()).await
        }
        outcome => outcome,
    }
    .map_err(|error| from_core(&error))?;
    if let Some(why) = &engine.backend().note {
        note(on_note, why);
    }
    // Lets messages in between two layers: a cancellation, for one.
    let next_task = SendWrapper::new(next_task.clone());
    engine.set_pause(Box::new(move || {
        let promise = next_task.call0(&JsValue::UNDEFINED).ok().map(Promise::from);
        Box::pin(SendWrapper::new(async move {
            if let Some(promise) = promise {
                // It is never rejected.
                let _ = JsFuture::from(promise).await;
            }
        }))
    }));
    Ok(engine)
}

fn note(on_note: &Function, text: &str) {
    // What listens is the package's own worker.
    let _ = on_note.call1(&JsValue::UNDEFINED, &text.into());
}
