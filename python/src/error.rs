//! Errors as Python sees them: the classes of `package/sttabt/_errors.py`, with the library's messages.

use std::any::Any;

use pyo3::prelude::*;
use sttabt::Error;

mod classes {
    //! As the package names them.
    #![allow(missing_docs, reason = "they are described in Python")]

    pyo3::import_exception!(sttabt._errors, SttabtError);
    pyo3::import_exception!(sttabt._errors, InputError);
    pyo3::import_exception!(sttabt._errors, ModelError);
    pyo3::import_exception!(sttabt._errors, DeviceError);
}

pub use classes::InputError;
use classes::{DeviceError, ModelError, SttabtError};

/// The library's error.
pub fn from_core(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Input { .. }
        | Error::Query { .. }
        | Error::Passage { .. }
        | Error::NoPassages
        | Error::Label { .. }
        | Error::Head { .. }
        | Error::Rule { .. }
        | Error::RuleNeeds { .. } => InputError::new_err(message),
        Error::Config { .. }
        | Error::Unsupported { .. }
        | Error::Refused { .. }
        | Error::File { .. }
        | Error::Read { .. }
        | Error::MissingTensor { .. }
        | Error::TensorShape { .. }
        | Error::NotFinite { .. }
        | Error::Overflow { .. } => ModelError::new_err(message),
        Error::NoAdapter { .. }
        | Error::Gpu { .. }
        | Error::DeviceLost { .. }
        | Error::OutOfMemory { .. }
        | Error::TooLarge { .. } => DeviceError::new_err(message),
        _ => SttabtError::new_err(message),
    }
}

/// An input that cannot be read; `index` counts from 0.
pub fn bad_input(index: usize, reason: impl ToString) -> PyErr {
    from_core(&Error::Input { index, reason: reason.to_string() })
}

/// What failed that no input, model or device is to blame for.
pub fn internal(what: &str) -> PyErr {
    SttabtError::new_err(what.to_owned())
}

/// A thread that panicked: a mistake in this package or one below it.
pub fn from_panic(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    internal(&format!("internal error: {}", text.unwrap_or("a thread panicked")))
}

/// The error of a group of inputs, of which the first is the input `first` of the call.
pub fn of_group(error: Error, first: usize) -> Error {
    match error {
        Error::Input { index, reason } => Error::Input { index: first + index, reason },
        Error::TooLarge { what, needed, limit, backend } => {
            Error::TooLarge { what: renumbered(&what, first), needed, limit, backend }
        }
        Error::RuleNeeds { rule, needs } => Error::RuleNeeds { rule, needs: renumbered(&needs, first) },
        error => error,
    }
}

/// A message that counts an input from the group's first one, as in `input 3 has 20 tokens`.
fn renumbered(message: &str, first: usize) -> String {
    const INPUT: &str = "input ";
    let Some(start) = message.find(INPUT).map(|at| at + INPUT.len()) else { return message.to_owned() };
    let (before, rest) = message.split_at(start);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match rest[..digits].parse::<usize>() {
        Ok(number) => format!("{before}{}{}", first + number, &rest[digits..]),
        Err(_) => message.to_owned(),
    }
}
