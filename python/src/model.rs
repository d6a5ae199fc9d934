//! A model on a device, as the package's `Model` drives it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use sttabt::{
    BackendKind, BackendOptions, Classification, Engine, Input, ModelFiles, Outputs, Policy, Prune, PruneMode,
    RankOptions, RankProgress,
};

use crate::call::{Stop, Turns, locked, run};
use crate::columns::Columns;
use crate::error::{InputError, from_core, internal, of_group};
use crate::inputs::{Given, Source};
use crate::ranking;
use crate::role::Role;

/// A model on a device.
#[pyclass(frozen, module = "sttabt._native")]
pub struct Model {
    model: sttabt::Model,
    device: String,
    /// About how many tokens are computed between two reports of progress, as in `rank`.
    group_tokens: usize,
    engine: Mutex<Measured>,
    turns: Turns,
    stop: Stop,
}

/// An engine, and what `auto` has measured on its device.
struct Measured {
    engine: Engine,
    policies: Vec<Policy>,
}

/// What is to be computed of a group.
struct Job {
    embeds: bool,
    mode: PruneMode,
    outputs: Outputs,
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(py: Python<'_>, folder: PathBuf, backend: &str, adapter: Option<String>) -> PyResult<Self> {
        check_process()?;
        let kind = match backend {
            "auto" => BackendKind::Auto,
            "gpu" => BackendKind::Gpu,
            "cpu" => BackendKind::Cpu,
            _ => return Err(InputError::new_err(format!("backend `{backend}`: expected auto, gpu or cpu"))),
        };
        let options = BackendOptions { kind, adapter, ..BackendOptions::default() };
        let stop = Stop::default();
        let mut engine = run(
            py,
            &stop,
            |_| Ok(()),
            |_| {
                let model = sttabt::Model::from_bytes(ModelFiles::from_dir(&folder)?)?;
                pollster::block_on(Engine::new(&model, &options)).map(Some)
            },
        )?;
        engine.set_pause(stop.pause());
        let info = engine.backend();
        Ok(Self {
            model: engine.model().clone(),
            device: to_json(info)?,
            group_tokens: engine.group_tokens(),
            engine: Mutex::new(Measured { engine, policies: Vec::new() }),
            turns: Turns::default(),
            stop,
        })
    }

    fn info(&self) -> PyResult<String> {
        to_json(&self.model.info())
    }

    #[getter]
    fn device(&self) -> &str {
        &self.device
    }

    #[expect(clippy::too_many_arguments, reason = "the package's Python gives them all")]
    fn classify<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        embeds: bool,
        prune: Option<&str>,
        sigmoid: bool,
        threshold: Option<f32>,
        kept: bool,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        check_process()?;
        let mode = self.mode(prune)?;
        let outputs = Outputs { sigmoid, threshold, ..Outputs::default() };
        let mut job = Job { embeds, mode, outputs };
        let role = Role::Input { takes_images: self.model.preprocessor().is_some() };
        let mut source = Source::new(inputs, role)?;
        let report = |num_done: usize, total: Option<usize>| match &progress {
            Some(progress) => progress.call1((num_done, total)).map(|_| ()),
            None => Ok(()),
        };
        let mut columns = Columns::new(kept);
        report(0, source.total)?;
        loop {
            let first = columns.len();
            let group = source.group(self.group_tokens, &self.model)?;
            // Without inputs the rule is still to be checked.
            if group.is_empty() && first > 0 {
                break;
            }
            let is_empty = group.is_empty();
            let (prune, results) = self.computed(py, group, first, &job)?;
            // `auto` chooses once, so that all of a call's results have one rule.
            job.mode = PruneMode::Rule(prune.clone());
            columns.extend(prune, results);
            if is_empty {
                break;
            }
            report(columns.len(), source.total)?;
        }
        columns.into_dict(py, &self.model, sigmoid)
    }

    #[expect(clippy::too_many_arguments, reason = "the package's Python gives them all")]
    fn rank<'py>(
        &self,
        py: Python<'py>,
        query: &str,
        passages: &Bound<'py, PyAny>,
        prune: Option<&str>,
        top_n: Option<usize>,
        windows: bool,
        label: Option<String>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        check_process()?;
        let PruneMode::Rule(prune) = self.mode(prune)? else {
            return Err(InputError::new_err("`rank` takes a rule, for example `topk:0.5`, and not `auto`"));
        };
        let options = RankOptions { top_n, prune: Some(prune), windows, label };
        let passages = Source::new(passages, Role::Passage)?.texts()?;
        let report = |RankProgress { num_done, num_pairs }: RankProgress| match &progress {
            Some(progress) => progress.call1((num_done, num_pairs)).map(|_| ()),
            None => Ok(()),
        };
        let _turn = self.turns.take(py)?;
        let ranking = run(py, &self.stop, report, |sender| {
            let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
            let on_progress = |progress| {
                // Who listens waits for the end of this thread.
                let _ = sender.send(progress);
                ControlFlow::Continue(())
            };
            let engine = &mut locked(&self.engine).engine;
            self.stop.or_result(engine.rank(query, &passages, &options, on_progress)).transpose()
        })?;
        ranking::into_dict(py, ranking)
    }
}

impl Model {
    fn mode(&self, prune: Option<&str>) -> PyResult<PruneMode> {
        match prune {
            Some(prune) => prune.parse().map_err(|error| from_core(&error)),
            None => Ok(PruneMode::Rule(self.model.default_prune())),
        }
    }

    /// The results of a group, whose first input is the call's input `first`, and the rule that they were computed under.
    fn computed(
        &self,
        py: Python<'_>,
        mut group: Vec<Given>,
        first: usize,
        job: &Job,
    ) -> PyResult<(Prune, Vec<Classification>)> {
        let _turn = self.turns.take(py)?;
        run(
            py,
            &self.stop,
            |_| Ok(()),
            |_| {
                let mut all = group.iter_mut().enumerate();
                all.try_for_each(|(index, given)| given.decode(index)).map_err(|error| of_group(error, first))?;
                let inputs: Vec<Input<'_>> = group.iter().filter_map(Given::as_core).collect();
                let mut measured = locked(&self.engine);
                let run = job.run(&mut measured, &inputs);
                self.stop.or_result(run).transpose().map_err(|error| of_group(error, first))
            },
        )
    }
}

impl Job {
    /// One run under a rule, or under the policy, which is measured when it is first needed.
    async fn run(
        &self,
        Measured { engine, policies }: &mut Measured,
        inputs: &[Input<'_>],
    ) -> sttabt::Result<(Prune, Vec<Classification>)> {
        let rule = match &self.mode {
            PruneMode::Rule(rule) => rule.clone(),
            PruneMode::Auto(rule) => rule.clone().unwrap_or_else(|| engine.model().default_prune()),
        };
        if rule.is_dense() || matches!(self.mode, PruneMode::Rule(_)) {
            let results = match self.embeds {
                true => engine.embed(inputs, &rule, &self.outputs).await?,
                false => engine.classify(inputs, &rule, &self.outputs).await?,
            };
            return Ok((rule, results));
        }
        let known = policies.iter().position(|policy| *policy.prune() == rule);
        let place = match known {
            Some(place) => place,
            None => {
                let start = Instant::now();
                let now_ms = move || start.elapsed().as_secs_f64() * 1e3;
                policies.push(engine.measure_policy(&rule, &now_ms).await?);
                policies.len() - 1
            }
        };
        let policy = &policies[place];
        let (decision, results) = match self.embeds {
            true => engine.embed_by(policy, inputs, &self.outputs).await?,
            false => engine.classify_by(policy, inputs, &self.outputs).await?,
        };
        Ok((decision.prune, results))
    }
}

/// The threads that compute are not in a process that was forked off: a run there would wait for ever.
fn check_process() -> PyResult<()> {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    let own = std::process::id();
    match *PROCESS.get_or_init(|| own) == own {
        true => Ok(()),
        false => Err(internal(
            "sttabt was used before this process was forked off, and its threads are not here: start processes with `spawn`",
        )),
    }
}

fn to_json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| internal(&error.to_string()))
}
