//! `sttabt` for Python: the library's names, without arithmetic of its own. The package's Python files are the only callers.

#![warn(missing_docs)]

mod arrow;
mod call;
mod columns;
mod error;
mod inputs;
mod model;
mod ranking;
mod role;

/// The compiled part of the package.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::model::Model;
}
