//! What a call brings with it from JavaScript, its inputs and a flag that cancels it, and what it takes back.

use std::cell::Cell;
use std::rc::Rc;

use sttabt::{Input, Picture};
use wasm_bindgen::prelude::*;

use crate::error::js_error;

/// Set from outside while a call runs; looked at between two layers.
#[wasm_bindgen]
#[derive(Clone, Default)]
pub struct CancelFlag(Rc<Cell<bool>>);

#[wasm_bindgen]
impl CancelFlag {
    /// Not cancelled.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the call that was given this flag.
    pub fn cancel(&self) {
        self.0.set(true);
    }
}

impl CancelFlag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.get()
    }
}

/// A decoded picture.
#[wasm_bindgen]
pub struct Image(Rc<Picture>);

#[wasm_bindgen]
impl Image {
    /// Decodes a PNG, JPEG, WebP, GIF or BMP file.
    ///
    /// # Errors
    /// Kind `input`, naming what is wrong with the file.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Image, JsValue> {
        Picture::decode(name, bytes).map(Rc::new).map(Image).map_err(|error| js_error("input", &error.to_string()))
    }

    /// Takes RGBA pixels as `ImageData` holds them; alpha is dropped.
    ///
    /// # Errors
    /// Kind `input` when the sizes do not fit together.
    pub fn from_rgba(width: usize, height: usize, rgba: &[u8]) -> Result<Image, JsValue> {
        let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Picture::from_rgb(width, height, rgb)
            .map(Rc::new)
            .map(Image)
            .map_err(|error| js_error("input", &error.to_string()))
    }
}

/// What a call computed.
#[wasm_bindgen]
pub struct Results {
    json: String,
    /// As the model saw them; `None` for a text.
    pictures: Vec<Option<Picture>>,
}

#[wasm_bindgen]
impl Results {
    /// An array of `Result` as JSON, in the order of the inputs. It is given away: the second time it is empty.
    pub fn json(&mut self) -> String {
        std::mem::take(&mut self.json)
    }

    /// The pixels that the model saw of an image, RGBA; their width is the model's. Empty for a text.
    pub fn pixels(&self, index: usize) -> Vec<u8> {
        let rgb = self.pictures.get(index).and_then(Option::as_ref).map_or(&[][..], Picture::rgb);
        rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect()
    }
}

impl Results {
    pub(crate) fn new(json: String, pictures: Vec<Option<Picture>>) -> Self {
        Self { json, pictures }
    }
}

/// What a call classifies, in the order of its results.
#[wasm_bindgen]
#[derive(Default)]
pub struct Inputs(Vec<Given>);

enum Given {
    Text(String, Option<String>),
    Image(Rc<Picture>),
}

impl Given {
    fn as_core(&self) -> Input<'_> {
        match self {
            Self::Text(text, None) => Input::Text(text),
            Self::Text(text, Some(pair)) => Input::Pair(text, pair),
            Self::Image(picture) => Input::Image(picture),
        }
    }
}

#[wasm_bindgen]
impl Inputs {
    /// No inputs yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, or a pair of texts.
    pub fn push_text(&mut self, text: String, text_pair: Option<String>) {
        self.0.push(Given::Text(text, text_pair));
    }

    /// Adds an image.
    pub fn push_image(&mut self, image: &Image) {
        self.0.push(Given::Image(Rc::clone(&image.0)));
    }
}

impl Inputs {
    /// As the core takes them.
    pub(crate) fn as_core(&self) -> Vec<Input<'_>> {
        self.0.iter().map(Given::as_core).collect()
    }
}
