//! Splitting a batch into chunks that fit the device.

use std::ops::Range;

use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::models::Input;
use crate::models::{Config, InputConfig, Model};
use crate::tensor::row_stride;

/// What a device can take at once, and what a row of a model needs there.
#[derive(Debug, Clone, Copy)]
pub struct ChunkLimits {
    /// Largest buffer that a kernel can bind.
    pub max_binding_bytes: u64,
    /// Work of a chunk, in multiply-adds.
    pub max_multiply_adds: u64,
    /// Bytes of a token's row in the widest buffer.
    pub row_bytes: u64,
}

impl ChunkLimits {
    /// Rows that fit the widest buffer.
    pub fn max_rows(&self) -> usize {
        usize::try_from(self.max_binding_bytes / self.row_bytes).unwrap_or(usize::MAX)
    }

    /// Values of attention maps that fit a buffer.
    pub fn max_map_values(&self) -> usize {
        usize::try_from(self.max_binding_bytes / 4).unwrap_or(usize::MAX)
    }
}

/// Bytes of a token's row in the widest buffer of either network, or in the index.
pub fn row_bytes(model: &Model) -> u64 {
    let widest = |config: &Config| {
        let input_width = match &config.input {
            InputConfig::Text(text) => config.hidden_size.max(text.embedding_size),
            InputConfig::Image(image) => image.patch_values(),
        };
        row_stride(config.intermediate_size.max(input_width)).max(3 * config.heads().stride())
    };
    // Row tables of both host levels and of every K_l, and the kept positions.
    let index_words = 4 + 3 * (model.config().num_hidden_layers + 1);
    let widest = widest(model.config()).max(model.approx_config().map_or(0, widest)).max(index_words);
    4 * widest as u64
}

/// Chunks per thread of a large batch, so that one that was held up leaves some of its share to the others.
const CHUNKS_PER_THREAD: usize = 2;
/// About how many tokens a chunk has, unless that gives more chunks than these. Each chunk reads all weights. For few
/// rows that costs more than waiting at every kernel.
const CHUNK_TOKENS: usize = 256;

/// Work of a chunk, in multiply-adds, if `num_threads` compute one each at the same time: an equal part of the batch.
pub fn share(lengths: &[usize], config: &Config, limits: &ChunkLimits, num_threads: usize) -> u64 {
    if num_threads == 1 {
        return u64::MAX;
    }
    let size = config.encoder_size();
    let num_tokens: usize = lengths.iter().sum();
    let work: u64 = lengths.iter().map(|&length| size.dense(length) / 2).sum();
    let num_chunks = ((num_tokens + CHUNK_TOKENS / 2) / CHUNK_TOKENS).clamp(1, CHUNKS_PER_THREAD * num_threads) as u64;
    let (num_threads, num_large) = (num_threads as u64, work.div_ceil(limits.max_multiply_adds));
    let num_chunks = match num_chunks.max(num_large) {
        few if few <= num_threads => few,
        many if many - many % num_threads >= num_large => many - many % num_threads,
        many => many.next_multiple_of(num_threads),
    };
    work.div_ceil(num_chunks).max(1)
}

/// About how many tokens are prepared at a time for a GPU, which computes those before meanwhile. Fewer would leave it idle between
/// small kernels.
#[cfg(feature = "gpu")]
const GROUP_TOKENS: u64 = 8192;

/// Consecutive inputs of about equal numbers of tokens, guessed before they are prepared: a text has one for every four bytes.
#[cfg(feature = "gpu")]
pub fn groups(inputs: &[Input<'_>], config: &Config) -> Vec<Range<usize>> {
    let guess = |input: &Input<'_>| match (&config.input, input) {
        (InputConfig::Image(image), _) => image.num_tokens(),
        (InputConfig::Text(text), Input::Text(one)) => (one.len() / 4 + 2).min(text.max_position_embeddings),
        (InputConfig::Text(text), Input::Pair(one, two)) => {
            ((one.len() + two.len()) / 4 + 3).min(text.max_position_embeddings)
        }
        (InputConfig::Text(_), Input::Image(_)) => 1,
    };
    let guesses: Vec<usize> = inputs.iter().map(guess).collect();
    // In 64 bits: `usize` has 32 in WebAssembly.
    let total: u64 = guesses.iter().map(|&guess| guess as u64).sum();
    let num_groups = (total / GROUP_TOKENS).max(1);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut done, mut last) = (0, u64::MAX);
    for (place, guess) in guesses.into_iter().enumerate() {
        // An input is where its middle is.
        let group = (done + guess as u64 / 2) * num_groups / total.max(1);
        done += guess as u64;
        match groups.last_mut() {
            Some(inputs) if group == last => inputs.end = place + 1,
            _ => groups.push(place..place + 1),
        }
        last = group;
    }
    // Without inputs the rule is still to be checked.
    if groups.is_empty() {
        groups.push(0..0);
    }
    groups
}

/// Consecutive samples, as long as their sum fits, and their work belongs to the same [`share`]. `lengths` are the
/// samples' tokens. `first` is the place of the first one in its request.
///
/// # Errors
/// [`Error::TooLarge`] when one sample alone does not fit a binding.
pub fn split(
    first: usize,
    lengths: &[usize],
    share: u64,
    config: &Config,
    with_maps: bool,
    limits: &ChunkLimits,
) -> Result<Vec<Range<usize>>> {
    let size = config.encoder_size();
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let (mut rows_bytes, mut maps_bytes, mut multiply_adds) = (0, 0, 0);
    let (mut done, mut last_part) = (0, 0);
    for (sample, &length) in lengths.iter().enumerate() {
        let rows = limits.row_bytes * length as u64;
        let maps = if with_maps { 4 * config.num_hidden_layers as u64 * length as u64 * length as u64 } else { 0 };
        let parts = [("rows", rows, "a shorter input"), ("attention maps", maps, "`dense`, or a shorter input,")];
        for (part, needed, smaller) in parts {
            if needed > limits.max_binding_bytes {
                let what =
                    format!("input {}: the {part} of its {length} tokens ({smaller} needs less)", first + sample + 1);
                let backend = "a binding of this device".to_owned();
                return Err(Error::TooLarge { what, needed, limit: limits.max_binding_bytes, backend });
            }
        }
        let work = size.dense(length) / 2;
        rows_bytes += rows;
        maps_bytes += maps;
        multiply_adds += work;
        // A sample is where its middle is.
        let part = (done + work / 2) / share;
        done += work;
        let fits = rows_bytes <= limits.max_binding_bytes
            && maps_bytes <= limits.max_binding_bytes
            && multiply_adds <= limits.max_multiply_adds
            && part == last_part;
        match chunks.last_mut() {
            Some(chunk) if fits => chunk.end = sample + 1,
            _ => {
                chunks.push(sample..sample + 1);
                (rows_bytes, maps_bytes, multiply_adds) = (rows, maps, work);
            }
        }
        last_part = part;
    }
    Ok(chunks)
}
