//! The kernels, as a trait: what the GPU and the CPU both compute.
//!
//! [`Backend`] has one method per kernel. The layer loop in `network` is written once against it; the
//! GPU records dispatches, the CPU computes at once. Neither side reads anything back before
//! [`Backend::submit`].
//!
//! Rows of a chunk's samples are packed one after another. A *level* is one such packing: level
//! [`ALL`] holds every token, level [`kept_level`]`(l)` the tokens of K_l. Only the device knows how many rows a
//! level has: the number stands in the [`ChunkLayout`]'s index buffer. The host knows an upper bound.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod layout;
mod stage;

use std::ops::Range;

use crate::error::{Error, Result};
pub use crate::pruning::{BackTrackingRule, FIXED_POINT, MapKind, Selection, logit, sigmoid};
use crate::tensor::{Heads, PackedLayerNorm, PackedLinear};

pub use layout::{ALL, ChunkLayout, kept_level};
pub use stage::{Stage, StageHook};

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    Identity,
    /// x · Φ(x), with the exact error function.
    Gelu,
    /// 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))), an approximation of [`Activation::Gelu`].
    GeluTanh,
    /// x · sigmoid(1.702 · x)
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
}

/// The rows that a kernel computes: those of one level, of which there are at most `bound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// See [`ChunkLayout`].
    pub level: usize,
    /// What the host knows of their number: kernels are dispatched for so many, and idle workgroups leave at once.
    pub bound: usize,
}

/// Sizes of a backend's matrix.
pub trait MatrixShape {
    /// Rows that fit.
    fn num_rows(&self) -> usize;
    /// Values per row in use.
    fn width(&self) -> usize;
    /// Values from one row to the next.
    fn stride(&self) -> usize;
}

/// Arguments of [`Backend::linear`].
pub struct Linear<'a, B: Backend> {
    /// `[rows, in_features]`
    pub input: &'a B::Matrix,
    /// Weight and bias.
    pub linear: &'a B::Linear,
    /// The (padded) output features to compute.
    pub features: Range<usize>,
    /// What follows the product.
    pub activation: Activation,
    /// Added after the activation, `[rows, features.len()]`.
    pub residual: Option<&'a B::Matrix>,
    /// The rows to compute.
    pub rows: Rows,
    /// The column of the output where the first feature goes.
    pub output_column: usize,
}

/// Arguments of [`Backend::attention`]. `query` holds Q in its first columns; `qkv` holds Q, K, V side by side.
pub struct Attention<'a, B: Backend> {
    /// `[query_rows, ≥ heads.stride()]`
    pub query: &'a B::Matrix,
    /// `[key_rows, 3 · heads.stride()]`
    pub qkv: &'a B::Matrix,
    /// How rows are split into heads.
    pub heads: Heads,
    /// The rows to compute.
    pub query_rows: Rows,
    /// The rows that they attend to, of the same samples.
    pub key_rows: Rows,
}

/// Arguments of [`Backend::attention_maps`].
pub struct AttentionMap<'a, B: Backend> {
    /// `[rows, 3 · heads.stride()]`
    pub qkv: &'a B::Matrix,
    /// How rows are split into heads.
    pub heads: Heads,
    /// What the map holds.
    pub kind: MapKind,
    /// The rows of the map, and its columns.
    pub rows: Rows,
    /// The layer whose map is written.
    pub layer: usize,
}

impl<B: Backend> AttentionMap<'_, B> {
    /// [`Error::Shape`] unless all arguments of [`Backend::attention_maps`] fit `num_rows` rows.
    fn check(
        &self,
        num_rows: usize,
        layout: &ChunkLayout,
        stats: &B::Matrix,
        maps: &B::Matrix,
        context: Option<&B::Matrix>,
    ) -> Result<()> {
        let check =
            |ok, argument, found: usize, expected: usize| check(ok, "attention_maps", argument, found, expected);
        let (stride, num_stats) = (self.heads.stride(), 2 * self.heads.num_heads);
        check(self.qkv.stride() == 3 * stride, "qkv", self.qkv.stride(), 3 * stride)?;
        check(stats.width() >= num_stats, "stats", stats.width(), num_stats)?;
        let max_rows = stats.num_rows().min(self.qkv.num_rows());
        check(num_rows <= max_rows, "rows", num_rows, max_rows)?;
        let num_values = (self.layer + 1) * layout.num_map_values;
        check(num_values <= maps.stride(), "maps", maps.stride(), num_values)?;
        let Some(context) = context else { return Ok(()) };
        check(context.stride() == stride, "context", context.stride(), stride)?;
        check(num_rows <= context.num_rows(), "context rows", context.num_rows(), num_rows)
    }
}

/// Arguments of [`Backend::back_tracking`].
pub struct BackTracking<'a, B: Backend> {
    /// The rule with its constants.
    pub rule: BackTrackingRule,
    /// `[1, num_layers · layout.num_map_values]`, see [`Backend::attention_maps`].
    pub maps: &'a B::Matrix,
    /// Rule 2: logit(p) of every layer, `[1, num_layers]`.
    pub thresholds: &'a B::Matrix,
    /// How many tokens, from the first on, are kept in every layer and make K_L.
    pub num_anchors: usize,
}

/// Arguments of [`Backend::select_tokens`].
pub struct SelectTokens<'a, B: Backend> {
    /// See [`Backend::attention_maps`].
    pub maps: &'a B::Matrix,
    /// The layer whose map is read, and whose tokens are there.
    pub layer: usize,
    /// Which of them go on.
    pub selection: Selection,
    /// How many tokens, from the first on, go on whatever they receive.
    pub num_anchors: usize,
}

/// A part of the device's memory to read back.
pub enum Region<'a, B: Backend> {
    /// The first rows of a matrix, padding included.
    Matrix(&'a B::Matrix, usize),
    /// Words of the index buffer.
    Index(&'a B::Index, Range<usize>),
}

/// A device that runs the kernels. All row counts and addresses are in the `index` of the chunk.
///
/// Every kernel checks its arguments' sizes and returns [`Error::Shape`] when they do not fit.
/// A row's result never depends on its place or on the other rows. What the host writes is seen by the kernels called after it, not by
/// those called before.
pub trait Backend: Sized {
    /// f32 rows in the backend's memory, padded to 8 values.
    type Matrix: MatrixShape;
    /// Uploaded weight and bias of a linear layer.
    type Linear;
    /// Uploaded weight and bias of a layer normalisation.
    type LayerNorm;
    /// The packed index buffer of a chunk, laid out by [`ChunkLayout`].
    type Index;
    /// What was submitted and is not read yet. To drop it is to forget its words.
    type Pending;

    /// Whether the kernels take the host's threads themselves.
    const COMPUTES_ON_HOST: bool;

    /// Largest buffer in bytes that a kernel can bind.
    fn max_binding_bytes(&self) -> u64;
    /// Most tokens of a sample that [`Backend::back_tracking`] and [`Backend::select_tokens`] take.
    fn max_pruned_tokens(&self) -> usize;
    /// Work (multiply-adds) that one chunk should not exceed by much, so that no watchdog ends it.
    fn max_chunk_multiply_adds(&self) -> u64;

    /// A matrix for `num_rows` rows of `width` values. Its contents are unspecified.
    fn create_matrix(&mut self, label: &'static str, num_rows: usize, width: usize) -> Result<Self::Matrix>;
    /// An index buffer for any layout of at most `num_words` words.
    fn create_index(&mut self, num_words: usize) -> Result<Self::Index>;
    /// Uploads weight and bias of a linear layer.
    fn create_linear(&mut self, label: &str, linear: &PackedLinear) -> Result<Self::Linear>;
    /// Uploads weight and bias of a layer normalisation.
    fn create_layer_norm(&mut self, label: &str, layer_norm: &PackedLayerNorm) -> Result<Self::LayerNorm>;

    /// Frees what is cached for matrices and index buffers that have been dropped. Kernels that were called since the last
    /// [`Backend::read`] may never run: a cancelled run leaves some.
    fn release(&mut self);

    /// Starts the work of a chunk whose index has this layout. `words` is written from word 0.
    fn begin_chunk(&mut self, index: &mut Self::Index, layout: ChunkLayout, words: &[u32]) -> Result<()>;
    /// Says that what follows belongs to a stage. Costs nothing unless somebody measures.
    fn begin_stage(&mut self, stage: Stage);
    /// Writes words of the index buffer, from word `at`.
    fn write_index(&mut self, index: &mut Self::Index, at: usize, words: &[u32]) -> Result<()>;
    /// Writes `values.len() / stride` rows of a matrix from `first_row` on, padding included.
    fn write_matrix(&mut self, matrix: &mut Self::Matrix, first_row: usize, values: &[f32]) -> Result<()>;

    /// output\[r, ..\] = input\[source_row\[level\]\[r\], columns\]: packs the rows of a level out of its parent's.
    fn gather_rows(
        &mut self,
        input: &Self::Matrix,
        columns: Range<usize>,
        index: &Self::Index,
        rows: Rows,
        output: &mut Self::Matrix,
    ) -> Result<()>;
    /// output\[r\] = (input\[r\] − mean) / √(variance + eps) · weight + bias.
    fn layer_norm(
        &mut self,
        input: &Self::Matrix,
        layer_norm: &Self::LayerNorm,
        index: &Self::Index,
        rows: Rows,
        output: &mut Self::Matrix,
    ) -> Result<()>;
    /// output\[r, output_column ..\] = activation(input\[r\] · weight\[features\]ᵀ + bias\[features\]) + residual\[r\].
    fn linear(&mut self, call: Linear<'_, Self>, index: &Self::Index, output: &mut Self::Matrix) -> Result<()>;
    /// output\[i\] = concat_h softmax_j(Q_h\[i\] · K_h\[j\] / √head_size) · V_h\[j\], j over the key rows of i's sample.
    fn attention(&mut self, call: Attention<'_, Self>, index: &Self::Index, output: &mut Self::Matrix) -> Result<()>;
    /// maps\[layer · num_map_values + map_offset\[sample\] + i · T + j\]: see [`MapKind`]; i and j count the sample's rows of
    /// the level, T is its number of tokens. With `context`, what [`Backend::attention`] gives for the same rows goes there: both
    /// come from the same scores. `stats`, `[rows, 2 · num_heads]`, is scratch.
    fn attention_maps(
        &mut self,
        call: AttentionMap<'_, Self>,
        index: &Self::Index,
        stats: &mut Self::Matrix,
        maps: &mut Self::Matrix,
        context: Option<&mut Self::Matrix>,
    ) -> Result<()>;
    /// Finds K_{L−1} … K_0 of every sample from its maps, last layer to first (paper, section 3). Writes `counts` and
    /// `kept` of all layers into the index, and token_scores\[layer, row\] (m of Rule 1, c of Rule 2) for all tokens.
    fn back_tracking(
        &mut self,
        call: BackTracking<'_, Self>,
        index: &mut Self::Index,
        token_scores: &mut Self::Matrix,
    ) -> Result<()>;
    /// K_{layer+1} out of K_layer, by the attention that its tokens receive from the rows of K_layer: see [`Selection`].
    /// Reads the map of `layer`, writes `counts` and `kept` of `layer + 1` and token_scores\[layer, row\] (zero if not in K_layer).
    fn select_tokens(
        &mut self,
        call: SelectTokens<'_, Self>,
        index: &mut Self::Index,
        token_scores: &mut Self::Matrix,
    ) -> Result<()>;
    /// Packs levels out of `counts` and `kept`: writes their offsets, `sample_of_row` and `source_row`. Parents come first.
    fn pack_rows(&mut self, levels: Range<usize>, index: &mut Self::Index) -> Result<()>;

    /// Whether the host may go on to the next chunk between [`Backend::submit`] and [`Backend::finish`].
    fn overlaps(&self) -> bool;
    /// Runs what was recorded, and reads these regions after it.
    fn submit(&mut self, regions: &[Region<'_, Self>]) -> Result<Self::Pending>;
    /// Waits for what was submitted, and returns the regions' words (f32 as bits), in order, with a single mapping.
    fn finish(&mut self, pending: Self::Pending) -> impl Future<Output = Result<Vec<Vec<u32>>>>;
    /// Both at once.
    fn read(&mut self, regions: &[Region<'_, Self>]) -> impl Future<Output = Result<Vec<Vec<u32>>>> {
        let pending = self.submit(regions);
        async { self.finish(pending?).await }
    }
}

/// [`Error::Shape`] unless `ok`.
pub(crate) fn check(
    ok: bool,
    kernel: &'static str,
    argument: &'static str,
    found: impl ToString,
    expected: impl ToString,
) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Error::Shape { kernel, argument, found: found.to_string(), expected: expected.to_string() })
    }
}

/// Inputs of a linear layer with an int8 weight at most: 255 · 128 times as much is less than 2³¹.
pub(crate) const MAX_INT8_INPUTS: usize = 1 << 16;
const _: () = assert!(255 * 128 * MAX_INT8_INPUTS < 1 << 31);

/// [`Error::Shape`] unless the sums of its whole numbers fit i32.
fn check_int8_inputs(linear: &PackedLinear) -> Result<()> {
    let expected = format_args!("at most {MAX_INT8_INPUTS} int8 inputs");
    check(linear.in_stride <= MAX_INT8_INPUTS, "linear", "weight", linear.in_stride, expected)
}
