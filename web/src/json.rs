//! The core's values on their way to JavaScript: as JSON, in which the worker turns the names of fields to camelCase.

use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::error::js_error;

/// `value` as JSON.
pub fn to_json(value: &impl Serialize) -> Result<String, JsValue> {
    serde_json::to_string(value).map_err(|error| js_error("internal", &error.to_string()))
}

/// All rules as JSON, without a model: the package's build writes them into a file.
///
/// # Errors
/// None that is known.
#[wasm_bindgen]
pub fn rules() -> Result<String, JsValue> {
    to_json(&sttabt::RULES)
}
