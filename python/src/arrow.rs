//! Columns of texts or files in Arrow's memory, through the capsules in which any Arrow package hands them over.
//!
//! This is Arrow's C data interface, and its C stream interface: their three structs never change. A crate for them would bring forty
//! others.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::{InputError, bad_input};

#[repr(C)]
struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    num_children: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private_data: *mut c_void,
}

#[repr(C)]
struct Array {
    length: i64,
    null_count: i64,
    offset: i64,
    num_buffers: i64,
    num_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut Array,
    dictionary: *mut Array,
    release: Option<unsafe extern "C" fn(*mut Array)>,
    private_data: *mut c_void,
}

#[repr(C)]
struct Stream {
    get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut Stream)>,
    private_data: *mut c_void,
}

impl Drop for Schema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: it was filled in by its producer, and is released once: `release` takes itself out.
            unsafe { release(self) }
        }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as for a schema.
            unsafe { release(self) }
        }
    }
}

/// A value of a column.
pub enum Cell {
    /// Of a column of texts.
    Text(String),
    /// Of a binary column.
    Bytes(Vec<u8>),
}

/// The rows of an array, a stream of arrays, or a table.
pub struct Rows {
    /// Of one array, or of a stream.
    kinds: Vec<Kind>,
    is_table: bool,
    /// Where chunks come from: a stream, in its capsule.
    stream: Option<Py<PyCapsule>>,
    chunk: Option<Chunk>,
    row: i64,
}

/// How a column's values lie in memory.
#[derive(Clone, Copy)]
struct Kind {
    layout: Layout,
    is_text: bool,
}

#[derive(Clone, Copy)]
enum Layout {
    /// Offsets of 32 bits.
    Small,
    /// Offsets of 64 bits.
    Large,
    /// Views of 16 bytes.
    View,
}

/// An array that is there as long as this is.
enum Chunk {
    /// It belongs to a capsule.
    Lent(Py<PyCapsule>),
    /// A stream gave it away. It does not move.
    Own(Rc<Array>),
}

impl Rows {
    /// The rows of an object with `__arrow_c_array__` or `__arrow_c_stream__`; `None` for another.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if object.hasattr("__arrow_c_array__")? {
            let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
                object.call_method0("__arrow_c_array__")?.extract()?;
            let pointer = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<Schema>();
            // SAFETY: a capsule of this name holds a schema, as long as it is there.
            let (kinds, is_table) = unsafe { kinds(pointer.as_ref()) }?;
            let chunk = Some(Chunk::Lent(array.unbind()));
            return Ok(Some(Self { kinds, is_table, stream: None, chunk, row: 0 }));
        }
        if !object.hasattr("__arrow_c_stream__")? {
            return Ok(None);
        }
        let capsule = object.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
        let mut schema = Schema {
            format: null(),
            name: null(),
            metadata: null(),
            flags: 0,
            num_children: 0,
            children: null_mut(),
            dictionary: null_mut(),
            release: None,
            private_data: null_mut(),
        };
        let stream = stream(&capsule)?;
        // SAFETY: the capsule holds a stream, whose function fills in a schema.
        unsafe { check(stream, (*stream).get_schema.map(|get_schema| get_schema(stream, &mut schema))) }?;
        // SAFETY: it has been filled in.
        let (kinds, is_table) = unsafe { kinds(&schema) }?;
        Ok(Some(Self { kinds, is_table, stream: Some(capsule.unbind()), chunk: None, row: 0 }))
    }

    /// The cells of the next row, one or two; `index` is its place.
    pub fn next(&mut self, py: Python<'_>, index: usize) -> PyResult<Option<Vec<Cell>>> {
        loop {
            if let Some(chunk) = &self.chunk {
                let array = chunk.array(py)?;
                // SAFETY: the chunk is there.
                let array = unsafe { &*array };
                if self.row < array.length {
                    let row = self.row;
                    self.row += 1;
                    return self.cells(array, row, index).map(Some);
                }
            }
            self.row = 0;
            self.chunk = match &self.stream {
                Some(stream) => next_chunk(stream.bind(py))?,
                None => None,
            };
            if self.chunk.is_none() {
                // An array has been read; a stream is at its end.
                self.stream = None;
                return Ok(None);
            }
        }
    }

    fn cells(&self, array: &Array, row: i64, index: usize) -> PyResult<Vec<Cell>> {
        let cell = |column: usize, kind: Kind| {
            let (values, row) = match self.is_table {
                false => (array, row),
                // SAFETY: an array of a table has a bitmap, and a child for each of the schema's, which begins where its parent does.
                true => unsafe {
                    if array.is_null(usize::try_from(array.offset + row).unwrap_or(0)) {
                        return Err(bad_input(index, "null, expected a text"));
                    }
                    (&**array.children.add(column), array.offset + row)
                },
            };
            // SAFETY: the array is laid out as the schema says.
            let bytes = unsafe { values.bytes(kind.layout, row) };
            let bytes = bytes.ok_or_else(|| bad_input(index, "null, expected a text"))?;
            match kind.is_text {
                true => String::from_utf8(bytes).map(Cell::Text).map_err(|error| bad_input(index, error)),
                false => Ok(Cell::Bytes(bytes)),
            }
        };
        self.kinds.iter().enumerate().map(|(column, kind)| cell(column, *kind)).collect()
    }
}

impl Chunk {
    fn array(&self, py: Python<'_>) -> PyResult<*const Array> {
        match self {
            Self::Lent(capsule) => Ok(capsule.bind(py).pointer_checked(Some(c"arrow_array"))?.cast().as_ptr()),
            Self::Own(array) => Ok(Rc::as_ptr(array)),
        }
    }
}

impl Array {
    /// # Safety
    /// The array has a bitmap, or none where there are no nulls.
    unsafe fn is_null(&self, at: usize) -> bool {
        // SAFETY: a bitmap has a bit for each row.
        unsafe {
            let bitmap = (*self.buffers).cast::<u8>();
            !bitmap.is_null() && *bitmap.add(at / 8) >> (at % 8) & 1 == 0
        }
    }

    /// The bytes of a value; `None` for null.
    ///
    /// # Safety
    /// The array has this layout, and more than `row` rows.
    unsafe fn bytes(&self, layout: Layout, row: i64) -> Option<Vec<u8>> {
        let at = usize::try_from(self.offset + row).ok()?;
        // SAFETY: these layouts have a bitmap, offsets or views for each row, and data where those say; what is empty may have no data.
        unsafe {
            if self.is_null(at) {
                return None;
            }
            let buffer = |place: usize| (*self.buffers.add(place)).cast::<u8>();
            let number = |pointer: *const u8, place: usize| pointer.cast::<i32>().add(place).read_unaligned();
            let (data, start, end) = match layout {
                Layout::Small => (buffer(2), i64::from(number(buffer(1), at)), i64::from(number(buffer(1), at + 1))),
                Layout::Large => {
                    let offset = |place: usize| buffer(1).cast::<i64>().add(place).read_unaligned();
                    (buffer(2), offset(at), offset(at + 1))
                }
                Layout::View => {
                    let view = buffer(1).add(16 * at);
                    let length = i64::from(number(view, 0));
                    if length <= 12 {
                        (view.add(4), 0, length)
                    } else {
                        let start = i64::from(number(view, 3));
                        (buffer(2 + usize::try_from(number(view, 2)).ok()?), start, start + length)
                    }
                }
            };
            let (start, length) = (usize::try_from(start).ok()?, usize::try_from(end - start).ok()?);
            if length == 0 {
                return Some(Vec::new());
            }
            Some(std::slice::from_raw_parts(data.add(start), length).to_vec())
        }
    }
}

fn stream(capsule: &Bound<'_, PyCapsule>) -> PyResult<*mut Stream> {
    Ok(capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast().as_ptr())
}

/// The next array of a stream; `None` at its end.
fn next_chunk(capsule: &Bound<'_, PyCapsule>) -> PyResult<Option<Chunk>> {
    let mut array = Array {
        length: 0,
        null_count: 0,
        offset: 0,
        num_buffers: 0,
        num_children: 0,
        buffers: null_mut(),
        children: null_mut(),
        dictionary: null_mut(),
        release: None,
        private_data: null_mut(),
    };
    let stream = stream(capsule)?;
    // SAFETY: the capsule holds a stream, whose function fills in an array, or leaves it released at the end.
    unsafe { check(stream, (*stream).get_next.map(|get_next| get_next(stream, &mut array))) }?;
    Ok(array.release.is_some().then(|| Chunk::Own(Rc::new(array))))
}

/// # Safety
/// It points to a stream.
unsafe fn check(stream: *mut Stream, code: Option<c_int>) -> PyResult<()> {
    if code == Some(0) {
        return Ok(());
    }
    // SAFETY: the text is there until the stream is called again.
    let text = unsafe {
        let text = (*stream).get_last_error.map_or(null(), |get_last_error| get_last_error(stream));
        if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    let reason = text.unwrap_or_else(|| "it was released".to_owned());
    Err(InputError::new_err(format!("the Arrow stream cannot be read: {reason}")))
}

/// The columns of a schema, one or two, and whether they are a table's.
///
/// # Safety
/// It has been filled in by its producer.
unsafe fn kinds(schema: &Schema) -> PyResult<(Vec<Kind>, bool)> {
    // SAFETY: a schema has a format, and as many children as it says.
    unsafe {
        if schema.format.is_null() || CStr::from_ptr(schema.format) != c"+s" {
            return Ok((vec![kind(schema)?], false));
        }
        if !(1..=2).contains(&schema.num_children) {
            let found = format!("inputs: an Arrow table of {} columns", schema.num_children);
            return Err(InputError::new_err(format!("{found}, expected one, or two for pairs of texts")));
        }
        let kinds = (0..schema.num_children as usize).map(|column| kind(&**schema.children.add(column)));
        Ok((kinds.collect::<PyResult<_>>()?, true))
    }
}

/// # Safety
/// It has been filled in by its producer.
unsafe fn kind(schema: &Schema) -> PyResult<Kind> {
    let error = |found: &str| {
        let expected = "expected strings, or pictures as binaries";
        Err(InputError::new_err(format!("inputs: an Arrow column {found}, {expected}")))
    };
    if schema.format.is_null() || !schema.dictionary.is_null() {
        return error(if schema.format.is_null() { "that was released" } else { "of a dictionary" });
    }
    // SAFETY: a format is a text.
    let format = unsafe { CStr::from_ptr(schema.format) }.to_string_lossy();
    let (layout, is_text) = match &*format {
        "u" => (Layout::Small, true),
        "U" => (Layout::Large, true),
        "vu" => (Layout::View, true),
        "z" => (Layout::Small, false),
        "Z" => (Layout::Large, false),
        "vz" => (Layout::View, false),
        format => return error(&format!("of the format `{format}`")),
    };
    Ok(Kind { layout, is_text })
}
