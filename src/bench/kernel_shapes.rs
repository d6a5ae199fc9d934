//! The shapes that models have, for every kernel, and the plain work that shows what a device can do at best.

use sttabt::backend::Activation;
use sttabt::tensor::Heads;

/// A kernel with its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// `[rows, in_features] · [out_features, in_features]ᵀ`
    Linear {
        rows: usize,
        in_features: usize,
        out_features: usize,
        f16: bool,
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
    AttentionStats {
        samples: usize,
        num_tokens: usize,
        heads: Heads,
    },
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
    ForwardTopK {
        samples: usize,
        num_tokens: usize,
    },
    PackRows {
        samples: usize,
        num_tokens: usize,
    },
}

/// Tokens of a sample where a shape names rows alone.
pub const SAMPLE: usize = 128;

const fn linear(rows: usize, in_features: usize, out_features: usize) -> Work {
    Work::Linear { rows, in_features, out_features, f16: false, activation: Activation::Identity, residual: false }
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
pub const CASES: [Work; 20] = [
    linear(1024, 384, 1152),
    Work::Linear {
        rows: 1024,
        in_features: 384,
        out_features: 1152,
        f16: true,
        activation: Activation::Identity,
        residual: false,
    },
    Work::Linear {
        rows: 1024,
        in_features: 384,
        out_features: 384,
        f16: true,
        activation: Activation::Identity,
        residual: true,
    },
    Work::Linear {
        rows: 1024,
        in_features: 384,
        out_features: 1536,
        f16: true,
        activation: Activation::Gelu,
        residual: false,
    },
    Work::Linear {
        rows: 1024,
        in_features: 1536,
        out_features: 384,
        f16: true,
        activation: Activation::Identity,
        residual: true,
    },
    Work::Linear {
        rows: 344,
        in_features: 384,
        out_features: 1536,
        f16: true,
        activation: Activation::Gelu,
        residual: false,
    },
    Work::Linear {
        rows: 43,
        in_features: 384,
        out_features: 1536,
        f16: true,
        activation: Activation::Gelu,
        residual: false,
    },
    Work::Linear {
        rows: 8,
        in_features: 384,
        out_features: 384,
        f16: true,
        activation: Activation::Tanh,
        residual: false,
    },
    Work::Linear {
        rows: 1024,
        in_features: 96,
        out_features: 384,
        f16: true,
        activation: Activation::Gelu,
        residual: false,
    },
    Work::LayerNorm { rows: 1024, width: 384 },
    Work::GatherRows { samples: 8, width: 384, kept: true },
    Work::Attention { samples: 8, num_tokens: 128, heads: heads(12, 32) },
    Work::Attention { samples: 8, num_tokens: 197, heads: heads(3, 64) },
    Work::AttentionStats { samples: 8, num_tokens: 128, heads: heads(12, 8) },
    Work::AttentionMaps { samples: 8, num_tokens: 128, heads: heads(12, 8) },
    Work::AttentionMaps { samples: 8, num_tokens: 197, heads: heads(3, 16) },
    Work::BackTracking { samples: 8, num_tokens: 128, concrete: false },
    Work::BackTracking { samples: 8, num_tokens: 128, concrete: true },
    Work::ForwardTopK { samples: 8, num_tokens: 128 },
    Work::PackRows { samples: 8, num_tokens: 128 },
];
