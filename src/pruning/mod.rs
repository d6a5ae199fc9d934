//! The paper: pruning rules, which tokens they keep at every layer and why, and what that costs. Knows no backend and no model.
//!
//! A rule is a file with its recursion (`top_k`, `concrete`, `forward`, `ltp`), a row in [`RULES`] and a variant of [`Prune`]. A [`Plan`] says what
//! a chunk needs under a rule; nothing outside this room asks which rule it is.

mod concrete;
mod flops;
mod forward;
mod logistic;
mod ltp;
mod plan;
mod policy;
mod rule;
mod select;
mod top_k;
mod why;

pub(crate) use concrete::{CONCRETE_EPS, Concrete, thresholds as concrete_thresholds};
pub use flops::{EncoderSize, Flops};
pub use logistic::{logit, sigmoid};
pub use plan::{BackTrackingRule, MapKind};
pub(crate) use plan::{Facts, MapsOf, Plan, Search, check_lengths};
pub(crate) use policy::Cost;
pub use policy::{Decision, Policy, PruneMode};
pub use rule::{Argument, Need, Prune, PruneConfig, RULES, Ratio, Ratios, Rule, Thresholds};
pub use select::{FIXED_POINT, Selection};
pub(crate) use select::{choose, fixed_point};
pub(crate) use top_k::{TOP_K_EPS, TopK};
pub use why::{Contribution, Why};
pub(crate) use why::{Found, why};
