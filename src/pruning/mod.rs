//! Pruning rules, and what they cost: which tokens to keep at every layer, and why. Knows attention maps and row counts, no model.

mod flops;
mod policy;
mod rule;
mod why;

pub use flops::{EncoderSize, Flops};
pub(crate) use policy::Cost;
pub use policy::{Decision, Policy, PruneMode};
pub use rule::{Prune, Ratio, Ratios};
pub use why::{Choice, Contribution, Found, Why, why};
