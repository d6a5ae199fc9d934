//! Every kernel on both backends, against an independent oracle in f64 and against each other.
//!
//! Outputs start as NaN, and what a kernel must not touch must still be NaN. A table runs to its end and reports every
//! failing case; with `--nocapture` it also tells the largest errors.

mod attention;
mod back_tracking;
mod data;
mod errors;
mod functions;
mod harness;
mod kept;
mod linear;
mod maps;
mod recursions;
mod rows;
mod tolerances;
