//! The one error type of the crate: every message names the thing that was wrong and what was expected.

/// What can go wrong between a model folder and a classification.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// A key of `config.json` is missing, of the wrong type or out of range.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    Config { file: String, key: String, found: String, expected: String },

    /// A feature of the model that this crate does not compute.
    #[error("{what} `{found}` is not supported; supported: {supported}")]
    Unsupported { what: &'static str, found: String, supported: &'static str },

    /// A feature of the model that this crate does not compute, and why.
    #[error("{what} `{found}` is not supported: {reason}")]
    Refused { what: &'static str, found: String, reason: &'static str },

    /// A file's bytes are not what its format promises.
    #[error("{file}: {reason}")]
    File { file: String, reason: String },

    /// A file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Read { file: String, reason: String },

    /// A tensor that the architecture needs is not in the file.
    #[error("{file}: tensor `{name}` is missing")]
    MissingTensor { file: String, name: String },

    /// A tensor has another shape than `config.json` says.
    #[error("{file}: tensor `{name}` is {found:?}, expected {expected:?}")]
    TensorShape { file: String, name: String, found: Vec<usize>, expected: Vec<usize> },

    /// A weight is NaN or infinite.
    #[error("{file}: tensor `{name}` holds {value} at index {index}, expected finite numbers")]
    NotFinite { file: String, name: String, index: usize, value: f32 },

    /// The model has another kind of head than what was asked for.
    #[error("`{asked}` needs {needs}, and this model is {found}")]
    Head { asked: &'static str, needs: &'static str, found: &'static str },

    /// An input cannot be classified. `index` counts from 0; the message counts from 1.
    #[error("input {}: {reason}", index + 1)]
    Input { index: usize, reason: String },

    /// A query cannot be ranked by.
    #[error("the query: {reason}")]
    Query { reason: String },

    /// A passage cannot be ranked. `index` counts from 0; the message counts from 1.
    #[error("passage {}: {reason}", index + 1)]
    Passage { index: usize, reason: String },

    /// There is nothing to rank.
    #[error("no passages to rank, expected at least one")]
    NoPassages,

    /// No label of the model gives the score, or more than one could.
    #[error("{reason}")]
    Label { reason: String },

    /// The caller ended a long call.
    #[error("cancelled after {num_done} of {num_pairs} pairs")]
    Cancelled { num_done: usize, num_pairs: usize },

    /// A pruning rule cannot be read.
    #[error("rule `{rule}`: {reason}")]
    Rule { rule: String, reason: String },

    /// A pruning rule does not fit the model.
    #[error("rule `{rule}` needs {needs}")]
    RuleNeeds { rule: String, needs: String },

    /// The model computes NaN or infinity.
    #[error("numbers under `{rule}` are not finite: the weights overflow")]
    Overflow { rule: String },

    /// A kernel was called with sizes that do not fit together.
    #[error("{kernel}: `{argument}` is {found}, expected {expected}")]
    Shape { kernel: &'static str, argument: &'static str, found: String, expected: String },

    /// Something does not fit a limit of the device.
    #[error("{what}: {needed} bytes needed, the limit of {backend} is {limit}")]
    TooLarge { what: String, needed: u64, limit: u64, backend: String },

    /// No GPU fits the request. `wanted` is what it is called in the message, such as `hardware GPU`.
    #[error("no {wanted}; found: {found}")]
    NoAdapter { wanted: String, found: String },

    /// The device rejected a command or failed to compile a shader.
    #[error("GPU error: {message}")]
    Gpu { message: String },

    /// The device is gone; a new engine must be made from the model.
    #[error("GPU device lost: {reason}")]
    DeviceLost { reason: String },

    /// The device or the host has no memory left.
    #[error("out of memory: {what}")]
    OutOfMemory { what: String },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
