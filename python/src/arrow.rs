//! Columns of texts or files in Arrow's memory, through the capsules in which any Arrow package hands them over.
//!
//! This is Arrow's C data interface, and its C stream interface: their three structs never change. A crate would bring forty others.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr::null;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::InputError;
use crate::role::Role;

// Each struct is empty at first. Without a `release` it is released, or moved away, and its other fields may point anywhere.

#[derive(Default)]
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

#[derive(Default)]
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

#[derive(Default)]
#[repr(C)]
struct Stream {
    get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut Stream)>,
    private_data: *mut c_void,
}

// SAFETY: any thread may use a struct of the interface, if only one does at a time.
unsafe impl Send for Schema {}
// SAFETY: as for a schema.
unsafe impl Send for Array {}
// SAFETY: as for a schema.
unsafe impl Send for Stream {}

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

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // A stream may wait for its threads, and those for the interpreter's lock.
            // SAFETY: as for a schema.
            Python::attach(|py| py.detach(|| unsafe { release(self) }));
        }
    }
}

/// A value of a column.
pub enum Cell {
    /// The column holds texts.
    Text(String),
    /// The column holds binaries.
    Bytes(Vec<u8>),
}

/// The rows of an array, a stream of arrays, or a table.
pub struct Rows {
    role: Role,
    /// How the values of each column lie: one of an array, one or two of a table.
    kinds: Vec<Kind>,
    is_table: bool,
    /// Where the next chunks come from.
    stream: Option<Stream>,
    /// What is being read.
    chunk: Option<Array>,
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
    /// Values are found by offsets of 32 bits.
    Small,
    /// Values are found by offsets of 64 bits.
    Large,
    /// Values are found by views of 16 bytes.
    View,
}

impl Rows {
    /// The rows of an object with `__arrow_c_array__` or `__arrow_c_stream__`; `None` for another.
    pub fn of(object: &Bound<'_, PyAny>, role: Role) -> PyResult<Option<Self>> {
        if object.hasattr("__arrow_c_array__")? {
            let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
                object.call_method0("__arrow_c_array__")?.extract()?;
            let schema = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<Schema>();
            // SAFETY: a capsule of this name holds a schema, as long as it is there.
            let (kinds, is_table) = unsafe { kinds(schema.as_ref(), role) }?;
            let mut array = array.pointer_checked(Some(c"arrow_array"))?.cast::<Array>();
            // SAFETY: a capsule of this name holds an array, and who takes it out leaves a released one.
            let array = mem::take(unsafe { array.as_mut() });
            if array.release.is_none() {
                return Err(released(role, "array"));
            }
            return Ok(Some(Self { role, kinds, is_table, stream: None, chunk: Some(array), row: 0 }));
        }
        if !object.hasattr("__arrow_c_stream__")? {
            return Ok(None);
        }
        let capsule = object.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
        let mut stream = capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast::<Stream>();
        // SAFETY: a capsule of this name holds a stream, and who takes it out leaves a released one.
        let mut stream = mem::take(unsafe { stream.as_mut() });
        if stream.release.is_none() {
            return Err(released(role, "stream"));
        }
        let schema = stream.schema(object.py())?;
        // SAFETY: the stream has filled it in.
        let (kinds, is_table) = unsafe { kinds(&schema, role) }?;
        Ok(Some(Self { role, kinds, is_table, stream: Some(stream), chunk: None, row: 0 }))
    }

    /// The cells of the next row, one or two; `index` is its place.
    pub fn next(&mut self, py: Python<'_>, index: usize) -> PyResult<Option<Vec<Cell>>> {
        loop {
            if let Some(array) = &self.chunk
                && self.row < array.length
            {
                let row = self.row;
                self.row += 1;
                return self.cells(array, row, index).map(Some);
            }
            self.row = 0;
            self.chunk = match &mut self.stream {
                Some(stream) => stream.next(py)?,
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
            let null = || {
                let expected = if kind.is_text { "a text" } else { "a picture" };
                self.role.refused(index, format!("null, expected {expected}"))
            };
            let (values, row) = match self.is_table {
                false => (array, row),
                // SAFETY: an array of a table has a bitmap, and a child for each of the schema's, which begins where its parent does.
                true => unsafe {
                    if array.is_null(usize::try_from(array.offset + row).unwrap_or(0)) {
                        return Err(null());
                    }
                    (&**array.children.add(column), array.offset + row)
                },
            };
            // SAFETY: the array is laid out as the schema says.
            let bytes = unsafe { values.bytes(kind.layout, row) };
            let bytes = bytes.ok_or_else(null)?;
            match kind.is_text {
                true => String::from_utf8(bytes).map(Cell::Text).map_err(|error| self.role.refused(index, error)),
                false => Ok(Cell::Bytes(bytes)),
            }
        };
        self.kinds.iter().enumerate().map(|(column, kind)| cell(column, *kind)).collect()
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

// The functions run without the interpreter's lock: a stream may wait for threads that need it.
impl Stream {
    fn schema(&mut self, py: Python<'_>) -> PyResult<Schema> {
        let (function, mut schema) = (self.get_schema, Schema::default());
        // SAFETY: the stream is not released, and its function fills in a schema.
        let code = py.detach(|| unsafe { function.map(|get_schema| get_schema(self, &mut schema)) });
        self.check(code)?;
        Ok(schema)
    }

    /// The next array; `None` at the end.
    fn next(&mut self, py: Python<'_>) -> PyResult<Option<Array>> {
        let (function, mut array) = (self.get_next, Array::default());
        // SAFETY: the stream is not released, and its function fills in an array, or leaves it released at the end.
        let code = py.detach(|| unsafe { function.map(|get_next| get_next(self, &mut array)) });
        self.check(code)?;
        Ok(array.release.is_some().then_some(array))
    }

    fn check(&mut self, code: Option<c_int>) -> PyResult<()> {
        if code == Some(0) {
            return Ok(());
        }
        // SAFETY: the stream is not released. The text is there until it is called again.
        let text = unsafe {
            let text = self.get_last_error.map_or(null(), |get_last_error| get_last_error(self));
            if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
        };
        let reason = text.unwrap_or_else(|| "it gives no reason".to_owned());
        Err(InputError::new_err(format!("the Arrow stream cannot be read: {reason}")))
    }
}

fn released(role: Role, what: &str) -> PyErr {
    let found = format!("{}s: the Arrow {what} was released", role.word());
    InputError::new_err(format!("{found}, expected one that nobody has read"))
}

/// The columns of a schema, one or two, and whether they are a table's.
///
/// # Safety
/// It has been filled in by its producer, or is released.
unsafe fn kinds(schema: &Schema, role: Role) -> PyResult<(Vec<Kind>, bool)> {
    if schema.release.is_none() {
        return Err(released(role, "schema"));
    }
    // SAFETY: a schema has a format, and as many children as it says.
    unsafe {
        if schema.format.is_null() || CStr::from_ptr(schema.format) != c"+s" {
            return Ok((vec![kind(schema, role)?], false));
        }
        let (counts, expected) = match role {
            Role::Passage => (1..=1, "one"),
            Role::Input { .. } => (1..=2, "one, or two for pairs of texts"),
        };
        if !counts.contains(&schema.num_children) {
            let found = format!("{}s: an Arrow table of {} columns", role.word(), schema.num_children);
            return Err(PyTypeError::new_err(format!("{found}, expected {expected}")));
        }
        let kinds = (0..schema.num_children as usize).map(|column| kind(&**schema.children.add(column), role));
        Ok((kinds.collect::<PyResult<_>>()?, true))
    }
}

/// # Safety
/// It has been filled in by its producer, or is released.
unsafe fn kind(schema: &Schema, role: Role) -> PyResult<Kind> {
    if schema.release.is_none() {
        return Err(released(role, "schema"));
    }
    let error = |found: &str, way_out: &str| {
        let expected = match role {
            Role::Passage => "strings",
            Role::Input { .. } => "strings, or pictures as binaries",
        };
        let found = format!("{}s: an Arrow column {found}", role.word());
        Err(PyTypeError::new_err(format!("{found}, expected {expected}{way_out}")))
    };
    if !schema.dictionary.is_null() {
        return error("of a dictionary", "; cast it first, in pyarrow by `column.cast(\"string\")`");
    }
    if schema.format.is_null() {
        return error("without a format", "");
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
        format => return error(&format!("of the format `{format}`"), ""),
    };
    Ok(Kind { layout, is_text })
}
