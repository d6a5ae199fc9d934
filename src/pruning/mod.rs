//! The paper: pruning rules, which tokens they keep at every layer and why, and what that costs. Knows no backend and no model.
//!
//! A rule is a file with its recursion (`top_k`, `concrete`, `forward`, `ltp`), a row in [`RULES`] and a variant of
//! [`Prune`]. A [`Plan`] says what a chunk needs under a rule. Nothing outside this folder asks which rule it is.

mod attention;
mod concrete;
mod explain;
mod flops;
mod forward;
mod logistic;
mod ltp;
mod plan;
mod policy;
mod prune;
mod rule;
mod select;
mod top_k;
mod why;

pub use attention::MapKind;
pub(crate) use attention::MapsOf;
pub(crate) use concrete::{Concrete, thresholds as concrete_thresholds};
pub(crate) use explain::why;
pub use flops::{EncoderSize, Flops};
pub(crate) use logistic::CONCRETE_EPS;
pub use logistic::{logit, sigmoid};
pub use plan::BackTrackingRule;
pub(crate) use plan::{Facts, Plan, Search};
pub(crate) use policy::Cost;
pub use policy::{Decision, Policy, PruneMode};
pub(crate) use prune::check_lengths;
pub use prune::{Prune, PruneConfig, RULES};
pub use rule::{Argument, Need, Ratio, Ratios, Rule, Thresholds};
pub(crate) use select::choose;
#[cfg(feature = "gpu")]
pub(crate) use select::fixed_point;
pub use select::{FIXED_POINT, Selection};
#[cfg(feature = "gpu")]
pub(crate) use top_k::TOP_K_EPS;
pub use top_k::TopK;
pub(crate) use why::Found;
pub use why::{Contribution, Why};
