//! The parts of a run, for those who measure where its time goes.

use std::fmt;

/// What the work after a mark belongs to, see [`super::Backend::begin_stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Preparing inputs, and making results of what was read back.
    Host,
    /// The attention maps that a rule looks at: ApproxNet's pass, or for `oracle` the model's own.
    ApproxNet,
    /// From the maps to packed rows.
    BackTracking,
    /// What enters layer 0.
    Embeddings,
    /// A layer of the model, from 0.
    Layer(usize),
    /// Pooler and classifier.
    Head,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.write_str("host"),
            Self::ApproxNet => formatter.write_str("approx_net"),
            Self::BackTracking => formatter.write_str("back_tracking"),
            Self::Embeddings => formatter.write_str("embeddings"),
            Self::Layer(layer) => write!(formatter, "layer_{layer}"),
            Self::Head => formatter.write_str("head"),
        }
    }
}

/// Called as a stage begins.
pub type StageHook = Box<dyn FnMut(Stage) + Send>;
