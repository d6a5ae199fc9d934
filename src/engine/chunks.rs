//! Splitting a batch into chunks that fit the device, and the row counts that a rule asks for.

use std::ops::Range;

use crate::backend::MAX_PRUNED_TOKENS;
use crate::error::{Error, Result};
use crate::models::{Config, InputConfig, Model};
use crate::pruning::Prune;
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
            InputConfig::Text(_) => config.hidden_size,
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
/// About how many tokens a chunk has, unless that gives more chunks than these: each chunk reads all weights, which costs more than waiting
/// at every kernel if it is for few rows.
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

/// Consecutive samples, as long as their sum fits, and their work belongs to the same [`share`]; `lengths` are the samples' tokens.
///
/// # Errors
/// [`Error::TooLarge`] when one sample alone does not fit a binding.
pub fn split(
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
        for (what, needed) in [("the rows", rows), ("the attention maps", maps)] {
            if needed > limits.max_binding_bytes {
                let what = format!("input {}: {what} of its {length} tokens", sample + 1);
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

/// How many tokens a rule picks, and upper bounds of what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picks {
    /// k of every layer and sample; empty for rules without ratios.
    pub k: Vec<Vec<usize>>,
    /// Upper bound of Σ |K_l| over the samples, l = 0 … L.
    pub bounds: Vec<usize>,
}

impl Picks {
    /// For samples of `lengths` tokens.
    ///
    /// # Errors
    /// [`Error::RuleNeeds`] when the rule has another number of ratios than the model has layers.
    pub fn new(prune: &Prune, lengths: &[usize], num_layers: usize) -> Result<Self> {
        let num_tokens: usize = lengths.iter().sum();
        let Some(ratios) = prune.ratios() else {
            let mut bounds = vec![num_tokens; num_layers + 1];
            if *prune == Prune::Concrete {
                bounds[num_layers] = lengths.len();
            }
            return Ok(Self { k: Vec::new(), bounds });
        };
        let ratios = ratios.for_layers(num_layers).ok_or_else(|| Error::RuleNeeds {
            rule: prune.to_string(),
            needs: format!("one ratio or {num_layers}, one per layer, not {}", ratios.len()),
        })?;
        let is_forward = matches!(prune, Prune::Forward(_));
        let mut k: Vec<Vec<usize>> = ratios
            .iter()
            .map(|ratio| {
                let pick = |&length: &usize| if is_forward { ratio.floor_of(length) } else { ratio.ceil_of(length) };
                lengths.iter().map(pick).collect()
            })
            .collect();
        let mut bounds = vec![0; num_layers + 1];
        for (sample, &length) in lengths.iter().enumerate() {
            let mut bound = if is_forward { length } else { 1 };
            if is_forward {
                bounds[0] += length;
                for layer in 1..num_layers {
                    // K_{l+1} is the picks of layer l and `[CLS]`, all out of K_l.
                    bound = bound.min(k[layer - 1][sample] + 1);
                    bounds[layer] += bound;
                }
                bounds[num_layers] += 1;
            } else {
                bounds[num_layers] += 1;
                for layer in (0..num_layers).rev() {
                    bound = length.min(k[layer][sample] + bound);
                    bounds[layer] += bound;
                }
            }
        }
        if is_forward {
            // After the last layer only `[CLS]` counts; its ratio is unused.
            k[num_layers - 1].fill(0);
        }
        Ok(Self { k, bounds })
    }
}

/// [`Error::RuleNeeds`] when the back-tracking kernels cannot hold a sample.
pub fn check_lengths(prune: &Prune, lengths: &[usize]) -> Result<()> {
    if *prune == Prune::Dense {
        return Ok(());
    }
    match lengths.iter().position(|&length| length > MAX_PRUNED_TOKENS) {
        None => Ok(()),
        Some(sample) => Err(Error::RuleNeeds {
            rule: prune.to_string(),
            needs: format!(
                "inputs of at most {MAX_PRUNED_TOKENS} tokens, input {} has {}; `dense` has no such limit",
                sample + 1,
                lengths[sample]
            ),
        }),
    }
}
