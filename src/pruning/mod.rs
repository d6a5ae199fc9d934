//! Pruning rules, and what they cost: which tokens to keep at every layer. Knows attention maps and row counts, no model.

mod flops;
mod rule;

pub use flops::{EncoderSize, Flops};
pub use rule::{Prune, Ratio, Ratios};
