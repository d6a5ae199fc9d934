//! The steps of one layer of an encoder.

use super::memory::Workspace;
use super::upload::{Encoder, Layer};
use crate::backend::{Activation, Attention, AttentionMap, Backend, Linear, MapKind, MatrixShape, Rows};
use crate::error::Result;
use crate::models::NormOrder;

impl<B: Backend> Encoder<B> {
    /// What queries, keys and values are computed from: the hidden states, or in pre-norm order those normalised.
    pub(super) fn attention_input<'w>(
        &self,
        backend: &mut B,
        weights: &Layer<B>,
        hidden_states: &'w B::Matrix,
        index: &B::Index,
        rows: Rows,
        normalised: &'w mut B::Matrix,
    ) -> Result<&'w B::Matrix> {
        match self.norm_order {
            NormOrder::Post => Ok(hidden_states),
            NormOrder::Pre => {
                backend.layer_norm(hidden_states, &weights.attention_norm, index, rows, normalised)?;
                Ok(normalised)
            }
        }
    }

    /// The head-averaged map of a layer whose Q and K are in `qkv`, and with V there what attention gives, in `context`.
    #[expect(clippy::too_many_arguments, reason = "the map's place, its rows and what else is wanted")]
    pub(super) fn attention_map(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        (kind, maps): (MapKind, &mut B::Matrix),
        layer: usize,
        index: &B::Index,
        rows: Rows,
        with_context: bool,
    ) -> Result<()> {
        let Workspace { qkv, stats, context, .. } = workspace;
        let call = AttentionMap { qkv, heads: self.heads, kind, rows, layer };
        backend.attention_maps(call, index, stats, maps, with_context.then_some(context))
    }

    /// Attention of the rows of `queries` over those of `keys`; ends in `context`.
    pub(super) fn attend(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        keys: Rows,
        queries: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { qkv, query, context, .. } = workspace;
        let query = if source == Source::All { &*qkv } else { &*query };
        let call = Attention { query, qkv, heads: self.heads, query_rows: queries, key_rows: keys };
        backend.attention(call, index, context)
    }

    /// What follows attention, for the rows of `queries`; ends in `hidden_states`.
    pub(super) fn finish_layer(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        weights: &Layer<B>,
        index: &B::Index,
        queries: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { hidden_states, residual, context, projected, attention_output, intermediate, .. } = workspace;
        let residual = if source == Source::All { &*hidden_states } else { &*residual };
        match self.norm_order {
            NormOrder::Post => {
                let project =
                    whole(context, &weights.attention_output, Activation::Identity, Some(residual), queries, projected);
                backend.linear(project, index, projected)?;
                backend.layer_norm(projected, &weights.attention_norm, index, queries, attention_output)?;
                let up = whole(attention_output, &weights.intermediate, self.activation, None, queries, intermediate);
                backend.linear(up, index, intermediate)?;
                let down = whole(
                    intermediate,
                    &weights.output,
                    Activation::Identity,
                    Some(attention_output),
                    queries,
                    projected,
                );
                backend.linear(down, index, projected)?;
                backend.layer_norm(projected, &weights.mlp_norm, index, queries, hidden_states)
            }
            NormOrder::Pre => {
                let project = whole(
                    context,
                    &weights.attention_output,
                    Activation::Identity,
                    Some(residual),
                    queries,
                    attention_output,
                );
                backend.linear(project, index, attention_output)?;
                backend.layer_norm(attention_output, &weights.mlp_norm, index, queries, projected)?;
                let up = whole(projected, &weights.intermediate, self.activation, None, queries, intermediate);
                backend.linear(up, index, intermediate)?;
                let down = whole(
                    intermediate,
                    &weights.output,
                    Activation::Identity,
                    Some(attention_output),
                    queries,
                    hidden_states,
                );
                backend.linear(down, index, hidden_states)
            }
        }
    }
}

/// All features of a linear layer, into all columns of `output`.
pub(super) fn whole<'a, B: Backend>(
    input: &'a B::Matrix,
    linear: &'a B::Linear,
    activation: Activation,
    residual: Option<&'a B::Matrix>,
    rows: Rows,
    output: &B::Matrix,
) -> Linear<'a, B> {
    Linear { input, linear, features: 0..output.stride(), activation, residual, rows, output_column: 0 }
}

/// Where the rows of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Every row goes on: embeddings as written, queries in `qkv`, the residual in `hidden_states`.
    All,
    /// Gathered into `query` and `residual`.
    Gathered,
}

/// Columns of a matrix with padding.
pub(super) fn row_width<B: Backend>(matrix: &B::Matrix) -> usize {
    matrix.stride()
}

/// Some of Q, K and V, into the same columns of `output`.
pub(super) fn project<B: Backend>(
    backend: &mut B,
    input: &B::Matrix,
    weights: &Layer<B>,
    features: std::ops::Range<usize>,
    index: &B::Index,
    rows: Rows,
    output: &mut B::Matrix,
) -> Result<()> {
    let output_column = features.start;
    let call = Linear {
        input,
        linear: &weights.query_key_value,
        features,
        activation: Activation::Identity,
        residual: None,
        rows,
        output_column,
    };
    backend.linear(call, index, output)
}
