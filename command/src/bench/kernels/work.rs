//! The kernels over the shapes that models have, and the plain work that shows what a device can do at best.

use sttabt::backend::Activation;
use sttabt::tensor::{DType, Heads};

/// Of the rows and layers that back-tracking looks at.
pub const NUM_LAYERS: usize = 6;
/// Every third token is kept.
pub const KEPT_STEP: usize = 3;

/// A kernel with its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// `[rows, in_features] · [out_features, in_features]ᵀ`
    Linear {
        rows: usize,
        in_features: usize,
        out_features: usize,
        weights: DType,
        activation: Activation,
        residual: bool,
    },
    LayerNorm {
        rows: usize,
        width: usize,
    },
    /// The rows of a level of a chunk of 128 tokens a sample.
    GatherRows {
        samples: usize,
        width: usize,
        kept: bool,
    },
    Attention {
        samples: usize,
        num_tokens: usize,
        heads: Heads,
    },
    /// The map with the context, as all but an ApproxNet's last layer want them.
    AttentionMaps {
        samples: usize,
        num_tokens: usize,
        heads: Heads,
    },
    BackTracking {
        samples: usize,
        num_tokens: usize,
        concrete: bool,
    },
    SelectTokens {
        samples: usize,
        num_tokens: usize,
    },
    PackRows {
        samples: usize,
        num_tokens: usize,
    },
}

/// Tokens of a sample where a shape names rows alone.
const SAMPLE: usize = 128;

const fn linear(rows: usize, in_features: usize, out_features: usize) -> Work {
    with(DType::F32, rows, in_features, out_features, Activation::Identity, false)
}

const fn with(
    weights: DType,
    rows: usize,
    in_features: usize,
    out_features: usize,
    activation: Activation,
    residual: bool,
) -> Work {
    Work::Linear { rows, in_features, out_features, weights, activation, residual }
}

const fn heads(num_heads: usize, head_size: usize) -> Heads {
    Heads { num_heads, head_size }
}

/// Plain matrix products: the best of them and of the cases' own is the ceiling for arithmetic.
pub const PRODUCTS: [Work; 6] = [
    linear(512, 512, 512),
    linear(1024, 1024, 1024),
    linear(1024, 384, 1536),
    linear(1024, 1536, 384),
    linear(2048, 768, 768),
    linear(4096, 256, 1024),
];

/// Copies: the best of them and of the cases' own is the ceiling for memory. 6 MiB stay in a cache, 96 MiB do not.
pub const COPIES: [Work; 2] = [
    Work::GatherRows { samples: 64, width: 384, kept: false },
    Work::GatherRows { samples: 128, width: 1536, kept: false },
];

/// What a layer of MiniLM (hidden size 384) computes for 8 × 128 tokens, dense and pruned to a third; DeiT-tiny's attention; what
/// finding the tokens costs.
pub const CASES: [Work; 24] = [
    linear(1024, 384, 1152),
    with(DType::F16, 1024, 384, 1152, Activation::Identity, false),
    with(DType::F16, 1024, 384, 384, Activation::Identity, true),
    with(DType::F16, 1024, 384, 1536, Activation::Gelu, false),
    with(DType::F16, 1024, 1536, 384, Activation::Identity, true),
    with(DType::F16, 344, 384, 1536, Activation::Gelu, false),
    with(DType::F16, 43, 384, 1536, Activation::Gelu, false),
    with(DType::F16, 8, 384, 384, Activation::Tanh, false),
    with(DType::F16, 1024, 96, 384, Activation::Gelu, false),
    with(DType::I8, 1024, 384, 1152, Activation::Identity, false),
    with(DType::I8, 1024, 384, 1536, Activation::Gelu, false),
    with(DType::I8, 1024, 1536, 384, Activation::Identity, true),
    with(DType::I8, 344, 384, 1536, Activation::Gelu, false),
    with(DType::I8, 1024, 96, 384, Activation::Gelu, false),
    Work::LayerNorm { rows: 1024, width: 384 },
    Work::GatherRows { samples: 8, width: 384, kept: true },
    Work::Attention { samples: 8, num_tokens: 128, heads: heads(12, 32) },
    Work::Attention { samples: 8, num_tokens: 197, heads: heads(3, 64) },
    Work::AttentionMaps { samples: 8, num_tokens: 128, heads: heads(12, 8) },
    Work::AttentionMaps { samples: 8, num_tokens: 197, heads: heads(3, 16) },
    Work::BackTracking { samples: 8, num_tokens: 128, concrete: false },
    Work::BackTracking { samples: 8, num_tokens: 128, concrete: true },
    Work::SelectTokens { samples: 8, num_tokens: 128 },
    Work::PackRows { samples: 8, num_tokens: 128 },
];

impl Work {
    pub fn kernel(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::LayerNorm { .. } => "layer_norm",
            Self::GatherRows { .. } => "gather_rows",
            Self::Attention { .. } => "attention",
            Self::AttentionMaps { .. } => "attention_maps",
            Self::BackTracking { .. } => "back_tracking",
            Self::SelectTokens { .. } => "select_tokens",
            Self::PackRows { .. } => "pack_rows",
        }
    }

    pub fn shape(&self) -> String {
        match *self {
            Self::Linear { rows, in_features, out_features, weights, activation, residual } => {
                let weights = weights.name();
                let activation = match activation {
                    Activation::Identity => "",
                    Activation::Gelu => " gelu",
                    Activation::GeluTanh => " gelu_tanh",
                    Activation::QuickGelu => " quick_gelu",
                    Activation::Relu => " relu",
                    Activation::Tanh => " tanh",
                };
                let residual = if residual { " + residual" } else { "" };
                format!("{rows} x {in_features} -> {out_features} {weights}{activation}{residual}")
            }
            Self::LayerNorm { rows, width } => format!("{rows} x {width}"),
            Self::GatherRows { samples, width, kept } => {
                let rows = if kept { samples * SAMPLE.div_ceil(KEPT_STEP) } else { samples * SAMPLE };
                format!("{rows} of {} x {width}", samples * SAMPLE)
            }
            Self::Attention { samples, num_tokens, heads } | Self::AttentionMaps { samples, num_tokens, heads } => {
                format!("{samples} x {num_tokens}, {} heads of {}", heads.num_heads, heads.head_size)
            }
            Self::BackTracking { samples, num_tokens, concrete } => {
                let rule = if concrete { "concrete" } else { "topk" };
                format!("{samples} x {num_tokens}, {NUM_LAYERS} layers, {rule}")
            }
            Self::SelectTokens { samples, num_tokens } => format!("{samples} x {num_tokens}"),
            Self::PackRows { samples, num_tokens } => format!("{samples} x {num_tokens}, {NUM_LAYERS} layers"),
        }
    }

    /// FLOPs of its matrix products, as everywhere in this crate.
    pub fn flops(&self) -> f64 {
        let flops = match *self {
            Self::Linear { rows, in_features, out_features, .. } => 2 * rows * in_features * out_features,
            // What a map needs are the scores that the context needs too.
            Self::Attention { samples, num_tokens, heads } | Self::AttentionMaps { samples, num_tokens, heads } => {
                4 * samples * num_tokens * num_tokens * heads.width()
            }
            _ => 0,
        };
        flops as f64
    }

    /// Bytes that have to be read and written once, whatever the kernel does.
    pub fn bytes(&self) -> f64 {
        let bytes = match *self {
            Self::Linear { rows, in_features, out_features, weights, residual, .. } => {
                let weight = weights.num_bytes() * in_features * out_features;
                weight + 4 * rows * (in_features + out_features + if residual { out_features } else { 0 })
            }
            Self::LayerNorm { rows, width } => 8 * rows * width,
            Self::GatherRows { samples, width, kept } => {
                8 * width * if kept { samples * SAMPLE.div_ceil(KEPT_STEP) } else { samples * SAMPLE }
            }
            Self::Attention { samples, num_tokens, heads } => 16 * samples * num_tokens * heads.width(),
            Self::AttentionMaps { samples, num_tokens, heads } => {
                4 * samples * num_tokens * (4 * heads.width() + num_tokens)
            }
            Self::BackTracking { samples, num_tokens, .. } => 4 * NUM_LAYERS * samples * num_tokens * num_tokens,
            Self::SelectTokens { samples, num_tokens } => 4 * samples * num_tokens * num_tokens,
            Self::PackRows { samples, num_tokens } => 4 * 3 * (NUM_LAYERS + 1) * samples * num_tokens,
        };
        bytes as f64
    }

    pub fn lengths(&self) -> Vec<usize> {
        match *self {
            // One sample of one row each: a product does not ask whose rows they are.
            Self::Linear { rows, .. } | Self::LayerNorm { rows, .. } => vec![1; rows],
            Self::GatherRows { samples, .. } => vec![SAMPLE; samples],
            Self::Attention { samples, num_tokens, .. }
            | Self::AttentionMaps { samples, num_tokens, .. }
            | Self::BackTracking { samples, num_tokens, .. }
            | Self::SelectTokens { samples, num_tokens }
            | Self::PackRows { samples, num_tokens } => vec![num_tokens; samples],
        }
    }
}
