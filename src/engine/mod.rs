//! One request from input to report: make tokens, split into chunks, find the tokens to keep, run the pruned model.

mod chunks;
mod policy;
mod rank;
mod ranking;
mod report;
mod request;
mod scorer;
mod scratch;
#[cfg(any(feature = "gpu", test))]
mod self_test;
mod session;
mod why;
mod worker;

use crate::backend::cpu::CpuBackend;
#[cfg(feature = "gpu")]
use crate::backend::gpu::{GpuBackend, GpuOptions};
use crate::error::{Error, Result};
use crate::models::{Input, Model, Prepared, Task, Tokens};
use crate::platform::Pause;
use crate::pruning::Prune;

pub use ranking::{RankOptions, RankProgress, RankWindow, RankedPassage, Ranking};
pub use request::{BackendInfo, BackendKind, BackendOptions, Classification, Outputs};
use session::{Session, prepare};
use worker::Job;

/// A model on a device.
///
/// `&mut`, because a run uses the engine's scratch memory. A run may be dropped at any await point; the next one starts afresh.
pub struct Engine {
    model: Model,
    session: Device,
    info: BackendInfo,
    pause: Pause,
}

enum Device {
    Cpu(Box<Session<CpuBackend>>),
    #[cfg(feature = "gpu")]
    Gpu(Box<Session<GpuBackend>>),
}

impl Engine {
    /// Uploads the model. After [`Error::DeviceLost`], make a new engine from the same model.
    ///
    /// `Auto` takes a hardware GPU if there is one, otherwise the CPU, and [`BackendInfo::note`] says why.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with the list of those found, [`Error::OutOfMemory`], [`Error::TooLarge`], [`Error::Gpu`];
    /// [`Error::File`] for a model that [`Engine::new_compact`] has freed.
    pub async fn new(model: &Model, options: &BackendOptions) -> Result<Self> {
        Self::open(&mut model.clone(), options, false).await
    }

    /// The same, with as little memory as can be. On the CPU, f16 weights stay f16.
    /// [`Bytes::Owned`](crate::Bytes::Owned) of the model are freed as they are packed, if `model` is the only handle
    /// to them. No other engine can be made of it then, nor after an error.
    ///
    /// # Errors
    /// As of [`Engine::new`].
    pub async fn new_compact(model: &mut Model, options: &BackendOptions) -> Result<Self> {
        Self::open(model, options, true).await
    }

    async fn open(model: &mut Model, options: &BackendOptions, is_compact: bool) -> Result<Self> {
        let (session, info) = Self::open_session(model, options, is_compact).await?;
        Ok(Self { model: model.clone(), session, info, pause: Box::new(|| Box::pin(async {})) })
    }

    #[cfg(feature = "gpu")]
    async fn open_session(
        model: &mut Model,
        options: &BackendOptions,
        is_compact: bool,
    ) -> Result<(Device, BackendInfo)> {
        if options.kind == BackendKind::Cpu {
            return Self::open_cpu(model, options, is_compact, None);
        }
        let allow_software = options.kind == BackendKind::Gpu || options.adapter.is_some();
        let gpu = GpuBackend::new(&GpuOptions { adapter: options.adapter.clone(), allow_software }).await;
        match gpu {
            Ok(backend) => {
                let description = backend.adapter();
                let (adapter, software) = (description.name.clone(), description.software);
                let backend = if options.self_test {
                    self_test::tested(backend, &adapter, model.config().is_int8).await?
                } else {
                    backend
                };
                let session = Session::new(backend, model, options.max_buffer_bytes).await?;
                Ok((Device::Gpu(Box::new(session)), BackendInfo { backend: "gpu", adapter, software, note: None }))
            }
            Err(error @ Error::NoAdapter { .. }) if options.kind == BackendKind::Auto && options.adapter.is_none() => {
                Self::open_cpu(model, options, is_compact, Some(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(feature = "gpu"))]
    async fn open_session(
        model: &mut Model,
        options: &BackendOptions,
        is_compact: bool,
    ) -> Result<(Device, BackendInfo)> {
        if options.kind == BackendKind::Gpu {
            let wanted = "GPU in a build without the feature `gpu`".to_owned();
            return Err(Error::NoAdapter { wanted, found: "none".to_owned() });
        }
        Self::open_cpu(model, options, is_compact, None)
    }

    fn open_cpu(
        model: &mut Model,
        options: &BackendOptions,
        is_compact: bool,
        note: Option<String>,
    ) -> Result<(Device, BackendInfo)> {
        if let (BackendKind::Cpu, Some(name)) = (options.kind, &options.adapter) {
            let wanted = format!("GPU `{name}` for the backend `cpu`, which takes none");
            return Err(Error::NoAdapter { wanted, found: "not looked for".to_owned() });
        }
        let mut backend = CpuBackend::new();
        backend.set_compact_weights(is_compact);
        let session = if is_compact {
            Session::new_freeing(backend, model, options.max_buffer_bytes)?
        } else {
            Session::new_now(backend, model, options.max_buffer_bytes)?
        };
        let info = BackendInfo {
            backend: "cpu",
            adapter: "CPU".to_owned(),
            software: false,
            note: note.map(|why| format!("running on the CPU: {why}")),
        };
        Ok((Device::Cpu(Box::new(session)), info))
    }

    /// Classifies a ragged batch: any number of inputs of any lengths, packed without padding.
    ///
    /// Results come in the order of the inputs, and each is independent of its neighbours. A batch that is too large
    /// for the device is split into chunks. On the CPU a smaller one is split too, where it is worth it. Its chunks
    /// run on several threads at the same time. Engines on the CPU share Rayon's threads: while several others run
    /// batches, a kernel may wait for one of them.
    ///
    /// # Errors
    /// [`Error::Input`] names an input that cannot be classified, [`Error::RuleNeeds`] what the model lacks for the rule,
    /// [`Error::DeviceLost`] and the other device errors.
    pub async fn classify(
        &mut self,
        inputs: &[Input<'_>],
        prune: &Prune,
        outputs: &Outputs,
    ) -> Result<Vec<Classification>> {
        self.check_head(false, outputs)?;
        self.run_inputs(inputs, prune, outputs).await
    }

    /// The same with a model that gives vectors: each result has an [`embedding`](Classification::embedding).
    ///
    /// # Errors
    /// As of [`Engine::classify`]; [`Error::Head`] for a model with a classifier.
    pub async fn embed(
        &mut self,
        inputs: &[Input<'_>],
        prune: &Prune,
        outputs: &Outputs,
    ) -> Result<Vec<Classification>> {
        self.check_head(true, outputs)?;
        self.run_inputs(inputs, prune, outputs).await
    }

    /// Classifies or embeds, whichever the model does, inputs that [`Model::read`] or [`Model::read_passages`] has made into tokens. Each result is
    /// bit for bit what the input gives alone, so inputs of several callers can share a run.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// # let model = sttabt::Model::from_bytes(sttabt::ModelFiles::from_dir("tests/fixtures/tiny-bert")?)?;
    /// use sttabt::{BackendKind, Engine, Input, Outputs};
    ///
    /// let mut engine = Engine::new(&model, &BackendKind::Cpu.into()).await?;
    /// let inputs = model.read(&[Input::Text("w51 w41"), Input::Pair("w88", "w11")])?;
    /// assert_eq!((inputs[0].num_tokens(), inputs[1].truncated()), (4, false));
    /// let results = engine.run(&inputs, &"topk:0.5".parse()?, &Outputs::default()).await?;
    /// assert_eq!(results[0].logits.len(), 5);
    /// # Ok::<(), sttabt::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The same errors as [`Engine::classify`] gives. Also [`Error::Input`], if another model has read an input.
    pub async fn run(&mut self, inputs: &[Prepared], prune: &Prune, outputs: &Outputs) -> Result<Vec<Classification>> {
        self.check_head(self.model.config().task == Task::Embedding, outputs)?;
        let own = |(index, input): (usize, &Prepared)| {
            let reason = || "another model has made its tokens".to_owned();
            input.tokens_for(&self.model).cloned().ok_or_else(|| Error::Input { index, reason: reason() })
        };
        let tokens = inputs.iter().enumerate().map(own).collect::<Result<Vec<Tokens>>>()?;
        self.classify_tokens(tokens, prune, outputs).await
    }

    /// What was asked for and the model's head does not give is an error.
    fn check_head(&self, embeds: bool, outputs: &Outputs) -> Result<()> {
        let task = self.model.config().task;
        let found = match task {
            Task::Classification => "a single-label classifier",
            Task::MultiLabel => "a multi-label classifier",
            Task::Regression => "one with a single output",
            Task::Embedding => "an embedder",
        };
        let refused = |asked, needs| Err(Error::Head { asked, needs, found });
        match (embeds, task) {
            (false, Task::Embedding) => refused("classify", "labels or a score (`embed` gives vectors)"),
            (true, task) if task != Task::Embedding => refused("embed", "an embedder (`classify` gives labels)"),
            _ if outputs.sigmoid && task != Task::Regression => refused("sigmoid", "a single output"),
            _ if outputs.threshold.is_some() && task != Task::MultiLabel => {
                refused("threshold", "several labels at once (`problem_type` in config.json)")
            }
            _ => Ok(()),
        }
    }

    async fn run_inputs(
        &mut self,
        inputs: &[Input<'_>],
        prune: &Prune,
        outputs: &Outputs,
    ) -> Result<Vec<Classification>> {
        let model = &self.model;
        let job = Job { model, prune, outputs, pause: &self.pause };
        match &mut self.session {
            Device::Cpu(session) => session.classify_on_all_threads(job, prepare(model, inputs, 0)?).await,
            #[cfg(feature = "gpu")]
            Device::Gpu(session) => {
                let groups = chunks::groups(inputs, model.config()).into_iter();
                let prepared = groups.map(|group| prepare(model, &inputs[group.clone()], group.start));
                session.classify(job, prepared).await
            }
        }
    }

    async fn classify_tokens(
        &mut self,
        tokens: Vec<Tokens>,
        prune: &Prune,
        outputs: &Outputs,
    ) -> Result<Vec<Classification>> {
        let job = Job { model: &self.model, prune, outputs, pause: &self.pause };
        match &mut self.session {
            Device::Cpu(session) => session.classify_on_all_threads(job, tokens).await,
            #[cfg(feature = "gpu")]
            Device::Gpu(session) => session.classify(job, std::iter::once(Ok(tokens))).await,
        }
    }

    fn can_prune(&self, tokens: &Tokens) -> bool {
        match &self.session {
            Device::Cpu(session) => session.can_prune(&self.model, tokens.len()),
            #[cfg(feature = "gpu")]
            Device::Gpu(session) => session.can_prune(&self.model, tokens.len()),
        }
    }

    /// The model it was made from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device it runs on.
    pub fn backend(&self) -> &BackendInfo {
        &self.info
    }

    /// Sets what is awaited between two layers of each chunk, at first nothing. A single-threaded caller can return to its event loop
    /// there; a run that is dropped there is cancelled.
    pub fn set_pause(&mut self, pause: Pause) {
        self.pause = pause;
    }

    /// The CPU backend, if it runs on it: the means to measure its stages.
    #[cfg(feature = "internals")]
    pub fn cpu(&mut self) -> Option<&mut CpuBackend> {
        match &mut self.session {
            Device::Cpu(session) => Some(session.backend()),
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => None,
        }
    }

    /// The GPU backend, if it runs on one: counters, measured stages, and the means to test a lost device.
    #[cfg(all(feature = "gpu", feature = "internals"))]
    pub fn gpu(&mut self) -> Option<&mut GpuBackend> {
        match &mut self.session {
            Device::Cpu(_) => None,
            Device::Gpu(session) => Some(session.backend()),
        }
    }
}
