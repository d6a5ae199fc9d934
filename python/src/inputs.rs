//! What a call classifies, pulled from Python in groups: lists, arrays, Arrow columns, or anything that can be iterated.

use std::fs;
use std::path::PathBuf;

use pyo3::exceptions::{PyImportError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMapping, PyString, PyTuple};
use sttabt::{Error, Input, InputConfig, Model, Picture, Result};

use crate::arrow::{Cell, Rows};
use crate::error::bad_input;
use crate::role::Role;

/// Images decoded and run at once: a batch large enough for any device, and small enough for the memory of photographs.
const IMAGES_AT_ONCE: usize = 32;

/// One input as Python gave it.
pub enum Given {
    Text(String),
    Pair(String, String),
    Picture(Picture),
    /// A picture's file, still to be decoded.
    Encoded(Vec<u8>),
    File(PathBuf),
}

/// Where inputs come from.
pub struct Source<'py> {
    py: Python<'py>,
    items: Items<'py>,
    role: Role,
    num_pulled: usize,
    /// How many there are, if that is known.
    pub total: Option<usize>,
}

enum Items<'py> {
    Python(Bound<'py, PyIterator>),
    Arrow(Rows),
}

impl<'py> Source<'py> {
    pub fn new(inputs: &Bound<'py, PyAny>, role: Role) -> PyResult<Self> {
        refuse_single(inputs, role)?;
        let arrow = match Rows::of(inputs, role) {
            // A series of pandas gives Arrow's capsules only beside pyarrow. Its values are there anyway; a table's rows are not.
            Err(error) if error.is_instance_of::<PyImportError>(inputs.py()) && is_column(inputs) => None,
            rows => rows?,
        };
        let items = match arrow {
            Some(rows) => Items::Arrow(rows),
            None if inputs.hasattr("columns")? => {
                let found = format!("{}s: a table ({})", role.word(), kind(inputs));
                return Err(PyTypeError::new_err(format!("{found}, expected one of its columns")));
            }
            None => Items::Python(inputs.try_iter()?),
        };
        Ok(Self { py: inputs.py(), items, role, num_pulled: 0, total: inputs.len().ok() })
    }

    /// The next inputs, of about so many tokens in all; none at the end.
    pub fn group(&mut self, max_tokens: usize, model: &Model) -> PyResult<Vec<Given>> {
        let (mut group, mut num_tokens) = (Vec::new(), 0);
        while num_tokens < max_tokens && !(self.role.takes_images() && group.len() == IMAGES_AT_ONCE) {
            let Some(given) = self.next()? else { break };
            num_tokens += given.guessed_tokens(model);
            group.push(given);
        }
        Ok(group)
    }

    fn next(&mut self) -> PyResult<Option<Given>> {
        let (index, role) = (self.num_pulled, self.role);
        let given = match &mut self.items {
            Items::Python(items) => match items.next() {
                Some(item) => Given::of(&item?, index, role)?,
                None => return Ok(None),
            },
            Items::Arrow(rows) => match rows.next(self.py, index)? {
                Some(cells) => Given::of_cells(cells, index, role)?,
                None => return Ok(None),
            },
        };
        self.num_pulled += 1;
        Ok(Some(given))
    }

    /// All of them as texts, for `rank`.
    pub fn texts(mut self) -> PyResult<Vec<String>> {
        let mut texts = Vec::new();
        while let Some(given) = self.next()? {
            match given {
                Given::Text(text) => texts.push(text),
                _ => return Err(self.role.other_type(texts.len(), "no text")),
            }
        }
        Ok(texts)
    }
}

impl Given {
    fn of(item: &Bound<'_, PyAny>, index: usize, role: Role) -> PyResult<Self> {
        if let Ok(text) = item.cast::<PyString>() {
            return Ok(Self::of_text(text_of(text, index, role)?, role));
        }
        if matches!(role, Role::Passage) {
            return Err(role.other_type(index, &kind(item)));
        }
        if let Ok(bytes) = item.cast::<PyBytes>() {
            return Ok(Self::Encoded(bytes.as_bytes().to_vec()));
        }
        if let Ok(bytes) = item.cast::<PyByteArray>() {
            return Ok(Self::Encoded(bytes.to_vec()));
        }
        let is_array = item.hasattr("dtype")? && item.hasattr("tobytes")?;
        if is_array && !is_column(item) {
            return pixels(item, index);
        }
        // A row of an array of texts, too.
        if is_array || item.is_instance_of::<PyTuple>() || item.is_instance_of::<PyList>() {
            let texts: Vec<Bound<'_, PyAny>> = item.try_iter()?.collect::<PyResult<_>>()?;
            if let [Ok(one), Ok(two)] = texts.iter().map(|text| text.cast::<PyString>()).collect::<Vec<_>>()[..] {
                return Ok(Self::Pair(text_of(one, index, role)?, text_of(two, index, role)?));
            }
            let found = format!("input {}: a {} of {}", index + 1, kind(item), texts.len());
            return Err(PyTypeError::new_err(format!("{found}, expected two texts (a pair)")));
        }
        if item.hasattr("convert")? && item.hasattr("getexif")? {
            return picture(item, index);
        }
        if item.hasattr("__fspath__")? {
            return Ok(Self::File(item.extract()?));
        }
        Err(role.other_type(index, &kind(item)))
    }

    fn of_cells(cells: Vec<Cell>, index: usize, role: Role) -> PyResult<Self> {
        let mut cells = cells.into_iter();
        match (cells.next(), cells.next()) {
            (Some(Cell::Bytes(_)), _) if matches!(role, Role::Passage) => Err(role.other_type(index, "a binary")),
            (Some(Cell::Text(one)), Some(Cell::Text(two))) => Ok(Self::Pair(one, two)),
            (Some(Cell::Text(text)), None) => Ok(Self::of_text(text, role)),
            (Some(Cell::Bytes(bytes)), None) => Ok(Self::Encoded(bytes)),
            _ => Err(PyTypeError::new_err(format!("input {}: two columns that are not both texts", index + 1))),
        }
    }

    fn of_text(text: String, role: Role) -> Self {
        if role.takes_images() { Self::File(text.into()) } else { Self::Text(text) }
    }

    /// A text has about one token for every four bytes.
    fn guessed_tokens(&self, model: &Model) -> usize {
        match (&model.config().input, self) {
            (InputConfig::Image(image), _) => image.num_tokens(),
            (InputConfig::Text(text), Self::Text(one)) => (one.len() / 4 + 2).min(text.max_position_embeddings),
            (InputConfig::Text(text), Self::Pair(one, two)) => {
                ((one.len() + two.len()) / 4 + 3).min(text.max_position_embeddings)
            }
            (InputConfig::Text(_), _) => 1,
        }
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    /// [`Error::Input`] with this index: a file cannot be read, or is no picture.
    pub fn decode(&mut self, index: usize) -> Result<()> {
        let picture = match self {
            Self::Text(_) | Self::Pair(..) | Self::Picture(_) => return Ok(()),
            Self::Encoded(bytes) => Picture::decode("", bytes).map_err(|error| match error {
                // It has no name but its number.
                Error::File { reason, .. } => Error::Input { index, reason },
                error => error,
            })?,
            Self::File(path) => {
                let file = path.display().to_string();
                let bytes = fs::read(path).map_err(|error| Error::Input {
                    index,
                    reason: Error::Read { file: file.clone(), reason: error.to_string() }.to_string(),
                })?;
                Picture::decode(&file, &bytes).map_err(|error| Error::Input { index, reason: error.to_string() })?
            }
        };
        *self = Self::Picture(picture);
        Ok(())
    }

    /// The input as the library takes it; `None` for a picture that is not decoded.
    pub fn as_core(&self) -> Option<Input<'_>> {
        match self {
            Self::Text(text) => Some(Input::Text(text)),
            Self::Pair(one, two) => Some(Input::Pair(one, two)),
            Self::Picture(picture) => Some(Input::Image(picture)),
            Self::Encoded(..) | Self::File(_) => None,
        }
    }
}

/// One input where a list of them is expected would be read letter by letter.
fn refuse_single(inputs: &Bound<'_, PyAny>, role: Role) -> PyResult<()> {
    let is_single = inputs.is_instance_of::<PyString>()
        || inputs.is_instance_of::<PyBytes>()
        || inputs.hasattr("__fspath__")?
        || inputs.hasattr("getexif")?;
    if is_single || inputs.is_instance_of::<PyMapping>() {
        let word = role.word();
        let wanted = if is_single { format!("a list, as in [{word}]") } else { "a list".to_owned() };
        return Err(PyTypeError::new_err(format!("{word}s: one {}, expected {wanted}", kind(inputs))));
    }
    Ok(())
}

fn is_column(object: &Bound<'_, PyAny>) -> bool {
    object.getattr("ndim").and_then(|ndim| ndim.extract::<usize>()).is_ok_and(|ndim| ndim == 1)
}

fn kind(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

fn text_of(text: &Bound<'_, PyString>, index: usize, role: Role) -> PyResult<String> {
    let refused = |_| role.refused(index, "half of a surrogate pair, expected Unicode");
    text.to_str().map(str::to_owned).map_err(refused)
}

/// The pixels of an array of NumPy.
fn pixels(array: &Bound<'_, PyAny>, index: usize) -> PyResult<Given> {
    let (dtype, shape) = (array.getattr("dtype")?.str()?, array.getattr("shape")?);
    match (dtype.to_str()?, &shape.extract::<Vec<usize>>()?[..]) {
        ("uint8", &[height, width, 3]) => {
            of_rgb(width, height, array.call_method0("tobytes")?.cast::<PyBytes>()?.as_bytes().to_vec(), index)
        }
        (dtype, _) => {
            let found = format!("input {}: an array of {dtype} {shape}", index + 1);
            Err(PyTypeError::new_err(format!("{found}, expected uint8 [height, width, 3]")))
        }
    }
}

/// A PIL image, turned as its file says, and without alpha: what the library makes of that file.
fn picture(image: &Bound<'_, PyAny>, index: usize) -> PyResult<Given> {
    let turned = image.py().import("PIL.ImageOps")?.call_method1("exif_transpose", (image,))?;
    let rgb = turned.call_method1("convert", ("RGB",))?;
    let (width, height) = rgb.getattr("size")?.extract()?;
    of_rgb(width, height, rgb.call_method0("tobytes")?.cast::<PyBytes>()?.as_bytes().to_vec(), index)
}

fn of_rgb(width: usize, height: usize, rgb: Vec<u8>, index: usize) -> PyResult<Given> {
    Picture::from_rgb(width, height, rgb).map(Given::Picture).map_err(|error| bad_input(index, error))
}
