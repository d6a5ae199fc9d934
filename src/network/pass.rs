//! The transformer encoder on a device, and the one layer loop that both backends and all rules share.

use super::layer::{Source, project, row_width, whole};
use super::memory::Workspace;
use super::upload::{Embedding, Encoder, Pooler};
use crate::backend::{ALL, Activation, Backend, ChunkLayout, MapKind, Rows, Stage, check, kept_level};
use crate::error::Result;
use crate::platform::Pause;

/// Where a pass leaves the hidden states of each sample's anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadRows {
    /// All tokens are there; the first rows of each sample are picked.
    FirstOfAll,
    /// Only K_L is there.
    Kept,
}

/// Which rows the layers of a pass compute. Bounds are upper bounds of Σ |K_l| over the samples, l = 0 … L.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sets<'a> {
    /// All tokens in every layer.
    All,
    /// Layer l computes keys and values for K_l and everything else for K_{l+1}, all of which are packed (paper, section 3).
    Known { bounds: &'a [usize] },
    /// The same, but K_{l+1} is chosen from the attention of layer l, whose queries are computed for all of K_l; K_0 is packed.
    Chosen { bounds: &'a [usize] },
}

/// What happens to a layer's attention map before the layer goes on.
pub(crate) trait Hook<B: Backend> {
    /// The place of the maps, `[1, L · num_map_values]`, and what they hold; `None` if nobody looks at them.
    fn maps(&mut self) -> Option<(MapKind, &mut B::Matrix)>;

    /// Packs K_{layer+1} where it was not known before; the map of `layer` is there, unless it is the last.
    fn choose(&mut self, backend: &mut B, layer: usize, index: &mut B::Index) -> Result<()>;
}

/// Nobody looks at the maps.
pub(crate) struct NoMaps;

impl<B: Backend> Hook<B> for NoMaps {
    fn maps(&mut self) -> Option<(MapKind, &mut B::Matrix)> {
        None
    }

    fn choose(&mut self, _: &mut B, _: usize, _: &mut B::Index) -> Result<()> {
        Ok(())
    }
}

/// Maps are kept for a rule that looks at them after the pass.
pub(crate) struct KeepMaps<'a, B: Backend> {
    pub kind: MapKind,
    pub maps: &'a mut B::Matrix,
}

impl<B: Backend> Hook<B> for KeepMaps<'_, B> {
    fn maps(&mut self) -> Option<(MapKind, &mut B::Matrix)> {
        Some((self.kind, &mut *self.maps))
    }

    fn choose(&mut self, _: &mut B, _: usize, _: &mut B::Index) -> Result<()> {
        Ok(())
    }
}

impl<B: Backend> Encoder<B> {
    /// A pass through all layers. Over all tokens with maps it ends at the last layer's map, and there are no hidden states after it.
    #[expect(clippy::too_many_arguments, reason = "a pass is what, where and how")]
    pub async fn forward(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &mut B::Index,
        layout: &ChunkLayout,
        sets: Sets<'_>,
        hook: &mut impl Hook<B>,
        pause: &Pause,
    ) -> Result<()> {
        let rows = |layer: usize| match sets {
            Sets::All => Rows { level: ALL, bound: layout.num_tokens },
            Sets::Known { bounds } | Sets::Chosen { bounds } => Rows { level: kept_level(layer), bound: bounds[layer] },
        };
        let (is_all, is_chosen) = (matches!(sets, Sets::All), matches!(sets, Sets::Chosen { .. }));
        let is_for_maps = is_all && hook.maps().is_some();
        let stage = |stage: Stage| if is_for_maps { Stage::ApproxNet } else { stage };
        let s = self.heads.stride();
        backend.begin_stage(stage(Stage::Embeddings));
        let source = if matches!(sets, Sets::Known { .. }) { Source::Gathered } else { Source::All };
        self.embed(backend, workspace, index, rows(0), source)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            backend.begin_stage(stage(Stage::Layer(layer)));
            let (keys, queries) = (rows(layer), rows(layer + 1));
            let is_last = layer + 1 == self.layers.len();
            // Who goes on is known, so that only they need queries. After the last layer that is always so.
            let is_known = !is_all && (!is_chosen || is_last);
            let ends_here = is_for_maps && is_last;
            let features = match (is_known, ends_here) {
                (true, _) => s..3 * s,
                (false, true) => 0..2 * s,
                (false, false) => 0..3 * s,
            };
            let Workspace { hidden_states, projected, qkv, .. } = workspace;
            let input = self.attention_input(backend, weights, hidden_states, index, keys, projected)?;
            project(backend, input, weights, features, index, keys, qkv)?;
            let mut has_context = false;
            if let (false, Some((kind, maps))) = (is_known, hook.maps()) {
                // Where all rows go on, attention comes from the same scores as the map.
                has_context = is_all && !is_last;
                self.attention_map(backend, workspace, (kind, maps), layer, index, keys, has_context)?;
            }
            if ends_here {
                break;
            }
            if is_chosen {
                hook.choose(backend, layer, index)?;
            }
            let source = if is_all { Source::All } else { Source::Gathered };
            if source == Source::Gathered {
                let Workspace { hidden_states, residual, qkv, query, attention_output, .. } = workspace;
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
                if is_known {
                    let input = self.attention_input(backend, weights, residual, index, queries, attention_output)?;
                    project(backend, input, weights, 0..s, index, queries, query)?;
                } else {
                    backend.gather_rows(qkv, 0..s, index, queries, query)?;
                }
            }
            if !has_context {
                self.attend(backend, workspace, index, keys, queries, source)?;
            }
            self.finish_layer(backend, workspace, weights, index, queries, source)?;
            pause().await;
        }
        Ok(())
    }

    /// Logits, or an embedding, from the hidden states of the anchors.
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
        let bound = layout.num_samples * self.num_anchors;
        let (anchors, rows) = match at {
            HeadRows::Kept => (&*hidden_states, Rows { level: kept_level(layout.num_layers), bound }),
            HeadRows::FirstOfAll => {
                let rows = Rows { level: layout.first_level(), bound };
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, rows, residual)?;
                (&*residual, rows)
            }
        };
        match &self.pooler {
            Pooler::None => return Ok(()),
            Pooler::Dense(dense, activation) => {
                backend.linear(whole(anchors, dense, *activation, None, rows, pooled), index, pooled)?;
            }
            Pooler::Norm(norm) => backend.layer_norm(anchors, norm, index, rows, pooled)?,
        }
        match &self.classifier {
            None => Ok(()),
            Some(classifier) => {
                backend.linear(whole(pooled, classifier, Activation::Identity, None, rows, logits), index, logits)
            }
        }
    }

    /// Where [`Self::head`] leaves what it computes: a row for each anchor of each sample.
    pub fn outputs<'w>(&self, workspace: &'w Workspace<B>, at: HeadRows) -> &'w B::Matrix {
        match (&self.classifier, &self.pooler, at) {
            (Some(_), ..) => &workspace.logits,
            (None, Pooler::None, HeadRows::Kept) => &workspace.hidden_states,
            (None, Pooler::None, HeadRows::FirstOfAll) => &workspace.residual,
            (None, ..) => &workspace.pooled,
        }
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
        let Workspace { embeddings, narrow, patches, residual, hidden_states, .. } = workspace;
        let (residual, normalised) = match narrow {
            Some([gathered, normalised]) => (gathered, Some(normalised)),
            None => (residual, None),
        };
        if source == Source::Gathered {
            backend.gather_rows(embeddings, 0..row_width::<B>(embeddings), index, rows, residual)?;
            if let Some([all, gathered]) = patches {
                backend.gather_rows(all, 0..row_width::<B>(all), index, rows, gathered)?;
            }
        }
        let embeddings = if source == Source::Gathered { &*residual } else { &*embeddings };
        match (&self.embedding, patches) {
            (Embedding::Projected { norm, projection, .. }, _) => {
                let Some(normalised) = normalised else {
                    return check(false, "embed", "normalised_embeddings", "missing", "a matrix");
                };
                backend.layer_norm(embeddings, norm, index, rows, normalised)?;
                let call = whole(normalised, projection, Activation::Identity, None, rows, hidden_states);
                backend.linear(call, index, hidden_states)
            }
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
