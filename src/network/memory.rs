//! The scratch memory of an encoder.

use super::upload::{Embedding, Encoder};
use crate::backend::Backend;
use crate::error::Result;
use crate::models::Tokens;

/// Scratch matrices of an encoder, for up to a number of rows; every run overwrites them.
pub(crate) struct Workspace<B: Backend> {
    /// Embedding rows of all tokens, from the host, `[N, embedding_size]`
    pub embeddings: B::Matrix,
    /// Where embeddings are projected: gathered, and normalised, both `[N, embedding_size]`
    pub narrow: Option<[B::Matrix; 2]>,
    /// An image model's patches of all tokens, from the host, and gathered, both `[N, patch_values]`; lent to ApproxNet for its pass
    pub patches: Option<[B::Matrix; 2]>,
    /// `[rows of the layer, hidden_size]`
    pub hidden_states: B::Matrix,
    /// The hidden states of the rows that go on, `[query rows, hidden_size]`
    pub residual: B::Matrix,
    /// Q, K, V side by side, `[key rows, 3 · heads.stride()]`
    pub qkv: B::Matrix,
    /// `[query rows, heads.stride()]`
    pub query: B::Matrix,
    /// `[query rows, heads.stride()]`
    pub context: B::Matrix,
    /// `[query rows, hidden_size]`
    pub projected: B::Matrix,
    /// `[query rows, hidden_size]`
    pub attention_output: B::Matrix,
    /// `[query rows, intermediate_size]`
    pub intermediate: B::Matrix,
    /// Statistics of each row's scores, `[rows, 2 · num_heads]`
    pub stats: B::Matrix,
    /// `[anchors of all samples, hidden_size]`
    pub pooled: B::Matrix,
    /// `[anchors of all samples, num_outputs]`
    pub logits: B::Matrix,
}

impl<B: Backend> Workspace<B> {
    /// Writes the patches of images, one after another; texts have none.
    pub fn write_patches(&mut self, backend: &mut B, tokens: &[Tokens]) -> Result<()> {
        let Some([patches, _]) = &mut self.patches else { return Ok(()) };
        let mut first_row = 0;
        for tokens in tokens {
            if let Tokens::Patches { rows, num_tokens, .. } = tokens {
                backend.write_matrix(patches, first_row, rows)?;
                first_row += num_tokens;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl<B: Backend> Workspace<B> {
    /// What the layers write: first those that start with K_0, then those of K_1; last an image model's gathered patches.
    pub fn layer_buffers_mut(&mut self) -> Vec<&mut B::Matrix> {
        let Self {
            patches,
            hidden_states,
            residual,
            qkv,
            query,
            context,
            projected,
            attention_output,
            intermediate,
            ..
        } = self;
        let mut buffers = vec![hidden_states, residual, qkv, query, context, projected, attention_output, intermediate];
        buffers.extend(patches.iter_mut().map(|[_, gathered]| gathered));
        buffers
    }
}

impl<B: Backend> Encoder<B> {
    /// Columns of the embedding rows that the host writes.
    pub fn embedding_size(&self) -> usize {
        match self.embedding {
            Embedding::Projected { embedding_size, .. } => embedding_size,
            _ => self.hidden_size,
        }
    }

    /// Scratch for `num_rows` tokens of `num_samples` samples.
    pub fn workspace(
        &self,
        backend: &mut B,
        num_rows: usize,
        num_samples: usize,
        patches: Option<[B::Matrix; 2]>,
    ) -> Result<Workspace<B>> {
        let hidden = self.hidden_size;
        let head_stride = self.heads.stride();
        let (width, num_anchors) = (self.embedding_size(), num_samples * self.num_anchors);
        let is_narrow = matches!(self.embedding, Embedding::Projected { .. });
        let mut narrow = |name| backend.create_matrix(name, num_rows, width);
        let narrow =
            if is_narrow { Some([narrow("gathered_embeddings")?, narrow("normalised_embeddings")?]) } else { None };
        Ok(Workspace {
            patches,
            narrow,
            embeddings: backend.create_matrix("embeddings", num_rows, width)?,
            hidden_states: backend.create_matrix("hidden_states", num_rows, hidden)?,
            residual: backend.create_matrix("residual", num_rows, hidden)?,
            qkv: backend.create_matrix("qkv", num_rows, 3 * head_stride)?,
            query: backend.create_matrix("query", num_rows, head_stride)?,
            context: backend.create_matrix("context", num_rows, head_stride)?,
            projected: backend.create_matrix("projected", num_rows, hidden)?,
            attention_output: backend.create_matrix("attention_output", num_rows, hidden)?,
            intermediate: backend.create_matrix("intermediate", num_rows, self.intermediate_size)?,
            stats: backend.create_matrix("stats", num_rows, 2 * self.heads.num_heads)?,
            pooled: backend.create_matrix("pooled", num_anchors, hidden)?,
            logits: backend.create_matrix("logits", num_anchors, self.num_outputs)?,
        })
    }

    /// Memory for an image model's patches.
    pub fn patches(&self, backend: &mut B, num_rows: usize) -> Result<Option<[B::Matrix; 2]>> {
        let Embedding::Patches { patch_values, .. } = self.embedding else { return Ok(None) };
        Ok(Some([
            backend.create_matrix("patches", num_rows, patch_values)?,
            backend.create_matrix("gathered_patches", num_rows, patch_values)?,
        ]))
    }
}
