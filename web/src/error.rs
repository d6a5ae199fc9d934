//! Errors as JavaScript sees them: an `Error` with a `kind`.

use js_sys::{Error as JsError, Reflect};
use sttabt::Error;
use wasm_bindgen::JsValue;

/// An `Error` with this `kind` (one of the package's `ErrorKind`).
pub fn js_error(kind: &str, message: &str) -> JsValue {
    let error = JsError::new(message);
    // Setting a property of a new object cannot fail.
    let _ = Reflect::set(&error, &"kind".into(), &kind.into());
    error.into()
}

/// The core's error.
pub fn from_core(error: &Error) -> JsValue {
    let kind = match error {
        Error::Input { .. }
        | Error::Query { .. }
        | Error::Passage { .. }
        | Error::NoPassages
        | Error::Label { .. }
        | Error::Head { .. }
        | Error::Rule { .. }
        | Error::RuleNeeds { .. } => "input",
        Error::Cancelled { .. } => "aborted",
        Error::Config { .. }
        | Error::Unsupported { .. }
        | Error::Refused { .. }
        | Error::File { .. }
        | Error::MissingTensor { .. }
        | Error::TensorShape { .. }
        | Error::NotFinite { .. }
        | Error::Overflow { .. } => "model",
        Error::NoAdapter { .. } | Error::Gpu { .. } | Error::DeviceLost { .. } => "device",
        Error::OutOfMemory { .. } | Error::TooLarge { .. } => "memory",
        _ => "internal",
    };
    js_error(kind, &error.to_string())
}
