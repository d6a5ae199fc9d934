//! The transformer encoder on a device, and the one layer loop that both backends and all rules share.

use super::layer::{Source, project, row_width, whole};
use super::memory::Workspace;
use super::upload::{Embedding, Encoder, Pooler};
use crate::backend::{ALL, Activation, Backend, ChunkLayout, MapKind, Rows, Stage, check, kept_level};
use crate::error::Result;
use crate::platform::Pause;

/// Where a pass leaves the hidden states of each sample's `[CLS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadRows {
    /// All tokens are there; the first row of each sample is picked.
    FirstOfAll,
    /// Only K_L is there.
    Kept,
}

/// What a pass does with attention maps.
pub(crate) struct MapTarget<'a, B: Backend> {
    pub kind: MapKind,
    /// `[1, L · num_map_values]`
    pub maps: &'a mut B::Matrix,
}

impl<B: Backend> Encoder<B> {
    /// A pass over all tokens: hidden states of every layer, or only the attention maps.
    ///
    /// With `maps`, the pass ends at the last layer's map, and there are no hidden states after it.
    pub async fn forward_dense(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        layout: &ChunkLayout,
        mut maps: Option<MapTarget<'_, B>>,
        pause: &Pause,
    ) -> Result<()> {
        let all = Rows { level: ALL, bound: layout.num_tokens };
        let is_approx = maps.is_some();
        let stage = |stage: Stage| if is_approx { Stage::ApproxNet } else { stage };
        backend.begin_stage(stage(Stage::Embeddings));
        self.embed(backend, workspace, index, all, Source::All)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            backend.begin_stage(stage(Stage::Layer(layer)));
            let s = self.heads.stride();
            let is_last_map = maps.is_some() && layer + 1 == self.layers.len();
            let features = if is_last_map { 0..2 * s } else { 0..3 * s };
            let Workspace { hidden_states, projected, qkv, .. } = workspace;
            let input = self.attention_input(backend, weights, hidden_states, index, all, projected)?;
            project(backend, input, weights, features, index, all, qkv)?;
            match &mut maps {
                Some(target) => self.attention_map(backend, workspace, target, layer, index, all, !is_last_map)?,
                None => self.attend(backend, workspace, index, all, all, Source::All)?,
            }
            if is_last_map {
                break;
            }
            self.finish_layer(backend, workspace, weights, index, all, Source::All)?;
            pause().await;
        }
        Ok(())
    }

    /// A pass over the kept tokens: layer l computes keys and values for K_l and everything else for K_{l+1} (paper, section 3).
    ///
    /// `bounds[l]` is an upper bound of Σ |K_l| over the samples.
    pub async fn forward_kept(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        bounds: &[usize],
        pause: &Pause,
    ) -> Result<()> {
        let rows = |layer: usize| Rows { level: kept_level(layer), bound: bounds[layer] };
        backend.begin_stage(Stage::Embeddings);
        self.embed(backend, workspace, index, rows(0), Source::Gathered)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            backend.begin_stage(Stage::Layer(layer));
            self.kept_layer(backend, workspace, weights, index, rows(layer), rows(layer + 1))?;
            pause().await;
        }
        Ok(())
    }

    /// The forward rule: layer l scores all of K_l, and its own attention decides K_{l+1}.
    #[expect(clippy::too_many_arguments, reason = "the pass and the tokens it chooses are one loop")]
    pub async fn forward_choosing(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &mut B::Index,
        bounds: &[usize],
        maps: &mut B::Matrix,
        token_scores: &mut B::Matrix,
        pause: &Pause,
    ) -> Result<()> {
        let rows = |layer: usize| Rows { level: kept_level(layer), bound: bounds[layer] };
        let num_layers = self.layers.len();
        let mut target = MapTarget { kind: MapKind::MeanProbs, maps };
        backend.begin_stage(Stage::Embeddings);
        backend.pack_rows(kept_level(0)..kept_level(1), index)?;
        self.embed(backend, workspace, index, rows(0), Source::All)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            let (keys, queries) = (rows(layer), rows(layer + 1));
            backend.begin_stage(Stage::Layer(layer));
            if layer + 1 < num_layers {
                let s = self.heads.stride();
                let Workspace { hidden_states, projected, qkv, .. } = workspace;
                let input = self.attention_input(backend, weights, hidden_states, index, keys, projected)?;
                project(backend, input, weights, 0..3 * s, index, keys, qkv)?;
                self.attention_map(backend, workspace, &mut target, layer, index, keys, false)?;
                backend.forward_top_k(target.maps, layer, index, token_scores)?;
                backend.pack_rows(kept_level(layer + 1)..kept_level(layer + 2), index)?;
                let Workspace { hidden_states, residual, qkv, query, .. } = workspace;
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
                backend.gather_rows(qkv, 0..s, index, queries, query)?;
                self.attend(backend, workspace, index, keys, queries, Source::Gathered)?;
                self.finish_layer(backend, workspace, weights, index, queries, Source::Gathered)?;
            } else {
                // After the last layer only `[CLS]` counts, whatever its attention.
                backend.pack_rows(kept_level(num_layers)..kept_level(num_layers + 1), index)?;
                self.kept_layer(backend, workspace, weights, index, keys, queries)?;
            }
            pause().await;
        }
        Ok(())
    }

    /// Logits from the hidden states of `[CLS]`.
    pub fn head(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        layout: &ChunkLayout,
        at: HeadRows,
    ) -> Result<()> {
        backend.begin_stage(Stage::Head);
        let Workspace { hidden_states, residual, pooled, logits, .. } = workspace;
        let num_samples = layout.num_samples;
        let (cls, rows) = match at {
            HeadRows::Kept => (&*hidden_states, Rows { level: kept_level(layout.num_layers), bound: num_samples }),
            HeadRows::FirstOfAll => {
                let rows = Rows { level: layout.first_level(), bound: num_samples };
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, rows, residual)?;
                (&*residual, rows)
            }
        };
        match &self.pooler {
            Pooler::Dense(dense, activation) => {
                backend.linear(whole(cls, dense, *activation, None, rows, pooled), index, pooled)?;
            }
            Pooler::Norm(norm) => backend.layer_norm(cls, norm, index, rows, pooled)?,
        }
        backend.linear(whole(pooled, &self.classifier, Activation::Identity, None, rows, logits), index, logits)
    }

    /// The hidden states that enter layer 0, of all tokens or of those in K_0.
    fn embed(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        rows: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { embeddings, patches, residual, hidden_states, .. } = workspace;
        if source == Source::Gathered {
            backend.gather_rows(embeddings, 0..row_width::<B>(embeddings), index, rows, residual)?;
            if let Some([all, gathered]) = patches {
                backend.gather_rows(all, 0..row_width::<B>(all), index, rows, gathered)?;
            }
        }
        let embeddings = if source == Source::Gathered { &*residual } else { &*embeddings };
        match (&self.embedding, patches) {
            (Embedding::Patches { projection, .. }, Some([all, gathered])) => {
                let patches = if source == Source::Gathered { gathered } else { all };
                let call = whole(patches, projection, Activation::Identity, Some(embeddings), rows, hidden_states);
                backend.linear(call, index, hidden_states)
            }
            (Embedding::Norm(norm), _) => backend.layer_norm(embeddings, norm, index, rows, hidden_states),
            (Embedding::Patches { .. }, None) => check(false, "embed", "patches", "missing", "a matrix"),
        }
    }
}
