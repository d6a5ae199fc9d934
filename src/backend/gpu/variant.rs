//! The variants of the matrix products, of linear layers and of attention.

use std::fmt;

/// How a matrix product is cut into workgroups. Both variants compute the same.
///
/// All compute in f32, whatever the weights are. Arithmetic in f16 would round the inputs, and ApproxNet would keep
/// other tokens: under `topk:0.5` in 6 of 300 sentences of SST-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Independent invocations with a tile each, without workgroup memory: for adapters that are software, which have caches instead.
    Wide,
    /// A tile to a workgroup, in its memory, and blocks of it in registers: for hardware.
    Tiled,
}

impl Variant {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Wide, Self::Tiled];
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wide => "wide",
            Self::Tiled => "tiled",
        })
    }
}

/// What a device runs: a variant for linear layers, and one for attention with its statistics and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// Of linear layers.
    pub linear: Variant,
    /// Of attention, its statistics and its maps.
    pub attention: Variant,
}

impl Variants {
    /// The same variant everywhere.
    pub const fn all(variant: Variant) -> Self {
        Self { linear: variant, attention: variant }
    }
}

impl fmt::Display for Variants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} linear layers, {} attention", self.linear, self.attention)
    }
}
