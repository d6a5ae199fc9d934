//! The tensors of a `pytorch_model.bin`. The reader runs nothing that a pickle asks for, and knows tensors, numbers and texts alone.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use pytorch_reader::{DType, PickleError, PytorchError, PytorchReader, Tensor};
use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::formats::{header, place};
use super::pickle::tensor_of;
use crate::error::{Error, Result};

/// How an archive begins: PyTorch's format since version 1.6.
const ZIP: &[u8] = b"PK\x03\x04";
/// What stands in the first bytes of the format before it.
const LEGACY: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const SEARCHED_BYTES: u64 = 64;

/// The names and shapes of some ten thousand tensors. Objects take far more memory than their bytes in a pickle.
const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Tensors may share their bytes in the file, and be views that repeat them. All of them together are at most so many times the file.
const MAX_SHARED: u64 = 4;
/// Besides that, for small files.
const MAX_MORE_BYTES: u64 = 1 << 20;

/// The tensors as a safetensors file; `None` if the file is no PyTorch file. `name` is for messages alone.
///
/// # Errors
/// [`Error::Read`] for a file that cannot be read, [`Error::File`] for one that is broken or too old, [`Error::OutOfMemory`].
pub fn read(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let unreadable =
        |error: std::io::Error| Error::Read { file: path.display().to_string(), reason: error.to_string() };
    let broken = |reason: String| Error::File { file: name.to_owned(), reason };
    let file = File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    (&file).take(SEARCHED_BYTES).read_to_end(&mut start).map_err(unreadable)?;
    if start.starts_with(ZIP) {
        check_archive(&file).map_err(broken)?;
    } else if !start.windows(LEGACY.len()).any(|bytes| bytes == LEGACY) {
        return Ok(None);
    }
    let not_read = |error: &dyn ToString| broken(format!("not a readable PyTorch file: {}", error.to_string()));
    let reader = PytorchReader::new(path).map_err(|error| match unknown_type(&file, &error) {
        Some(reason) => broken(reason),
        None => not_read(&error),
    })?;
    let mut tensors: Vec<Tensor> = reader.into_tensors().into_values().collect();
    tensors.sort_by_cached_key(|tensor| place(&tensor.name, dtype(tensor.dtype())));
    let num_bytes = tensors.iter().map(|tensor| tensor.byte_len() as u64).fold(0, u64::saturating_add);
    let file_bytes = file.metadata().map_err(unreadable)?.len();
    if num_bytes > MAX_SHARED * file_bytes + MAX_MORE_BYTES {
        return Err(broken(format!("its tensors have {num_bytes} bytes, and the file {file_bytes}")));
    }
    let sizes = tensors.iter().map(|tensor| (&*tensor.name, dtype(tensor.dtype()), tensor.shape(), tensor.byte_len()));
    let mut bytes = header(sizes);
    let no_memory = |_| Error::OutOfMemory { what: format!("the {num_bytes} bytes of {name}") };
    bytes.try_reserve_exact(num_bytes as usize).map_err(no_memory)?;
    for tensor in &tensors {
        bytes.extend(tensor.read().map_err(|error| not_read(&error))?);
    }
    Ok(Some(bytes))
}

/// Which tensor has a type that the reader does not know: complex, sparse, quantized or of 8 bits.
fn unknown_type(mut file: &File, error: &PytorchError) -> Option<String> {
    let PytorchError::Pickle(PickleError::UnsupportedType(found)) = error else { return None };
    // Other objects stand behind a tensor that is not to blame.
    if !found.ends_with("Storage") && !found.contains("._rebuild_") {
        return None;
    }
    let mut pickles = Vec::new();
    match ZipArchive::new(BufReader::new(file)) {
        Ok(mut archive) => {
            let index = (0..archive.len()).find(|&index| {
                let entry = archive.by_index_raw(index);
                entry.is_ok_and(|entry| entry.name().is_ok_and(|name| name.ends_with("data.pkl")))
            })?;
            archive.by_index_raw(index).ok()?.take(MAX_PICKLE_BYTES).read_to_end(&mut pickles).ok()?;
        }
        // The older format begins with its pickles.
        Err(_) => {
            file.rewind().ok()?;
            file.take(MAX_PICKLE_BYTES).read_to_end(&mut pickles).ok()?;
        }
    }
    let name = tensor_of(found, &pickles)?;
    let expected = "expected a dense tensor of f16, bf16, f32, f64 or whole numbers";
    let way_out = "convert it in PyTorch, or leave it out if the model does not use it";
    Some(format!("tensor `{name}` needs {found}, which is not read; {expected}: {way_out}"))
}

/// `torch.save` stores its files as they are. What is compressed could become any size.
fn check_archive(file: &File) -> Result<(), String> {
    let invalid = |error| format!("not a valid archive of PyTorch: {error}");
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(invalid)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(invalid)?;
        let name = entry.name().map_err(invalid)?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!(
                "`{name}` in it is compressed, which PyTorch never does: save the model again with `save_pretrained`"
            ));
        }
        if name.ends_with("data.pkl") && entry.size() > MAX_PICKLE_BYTES {
            return Err(format!("`{name}` in it has {} bytes, expected at most {MAX_PICKLE_BYTES}", entry.size()));
        }
    }
    Ok(())
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
