//! ViT and DeiT: where their tensors are in a Hugging Face or timm file, and their embeddings.

use super::config::{Config, ImageConfig, NUM_CHANNELS};
use super::picture::Picture;
use super::tensors::{EmbeddingTensors, HeadTensors, LayerTensors, LinearTensors, Names, PoolerTensors};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, row_stride};

/// The base model's part of a name.
pub const PREFIX: &str = "vit.";
/// The second token of a distilled DeiT, whose head this crate does not compute.
const DISTILLATION: [&str; 4] = [
    "dist_token",
    "deit.embeddings.distillation_token",
    "vit.embeddings.distillation_token",
    "embeddings.distillation_token",
];

/// The names of timm or, after `vit.`, those of Hugging Face.
fn names(weights: &Weights) -> (Names<'_>, bool) {
    let is_timm = weights.contains("pos_embed");
    (Names { weights, prefix: if is_timm { "" } else { PREFIX } }, is_timm)
}

/// The embeddings of a `ViTForImageClassification`.
pub fn embeddings<'a>(config: &Config, image: &ImageConfig, weights: &'a Weights) -> Result<EmbeddingTensors<'a>> {
    if let Some(found) = DISTILLATION.iter().find(|name| weights.contains(name)) {
        return Err(Error::Unsupported {
            what: "distilled DeiT: tensor",
            found: (*found).to_owned(),
            supported: "ViT and DeiT with the one token [CLS]",
        });
    }
    let (names, is_timm) = names(weights);
    let [cls, positions, projection] = if is_timm {
        ["cls_token", "pos_embed", "patch_embed.proj"]
    } else {
        ["embeddings.cls_token", "embeddings.position_embeddings", "embeddings.patch_embeddings.projection"]
    };
    let (hidden, num_tokens, size) = (config.hidden_size, image.num_tokens(), image.patch_size);
    let weight = names.tensor(&format!("{projection}.weight"), &[hidden, NUM_CHANNELS, size, size])?;
    // As matrices.
    Ok(EmbeddingTensors::Image {
        cls: names.tensor(cls, &[1, 1, hidden])?.with_shape(&[hidden]),
        positions: names.tensor(positions, &[1, num_tokens, hidden])?.with_shape(&[num_tokens, hidden]),
        projection: (
            weight.with_shape(&[hidden, image.patch_values()]),
            names.tensor(&format!("{projection}.bias"), &[hidden])?,
        ),
    })
}

/// One of its layers.
pub fn layer<'a>(config: &Config, weights: &'a Weights, layer: usize) -> Result<LayerTensors<'a>> {
    let (names, is_timm) = names(weights);
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    if is_timm {
        let layer = format!("blocks.{layer}");
        let fused = names.linear(&format!("{layer}.attn.qkv"), hidden, 3 * hidden)?;
        let part = |part: usize| -> LinearTensors<'a> {
            (fused.0.rows(part * hidden, hidden), fused.1.rows(part * hidden, hidden))
        };
        return Ok(LayerTensors {
            query: part(0),
            key: part(1),
            value: part(2),
            attention_output: names.linear(&format!("{layer}.attn.proj"), hidden, hidden)?,
            attention_norm: names.layer_norm(&format!("{layer}.norm1"), hidden)?,
            intermediate: names.linear(&format!("{layer}.mlp.fc1"), hidden, intermediate)?,
            output: names.linear(&format!("{layer}.mlp.fc2"), intermediate, hidden)?,
            mlp_norm: names.layer_norm(&format!("{layer}.norm2"), hidden)?,
        });
    }
    let layer = format!("encoder.layer.{layer}");
    Ok(LayerTensors {
        query: names.linear(&format!("{layer}.attention.attention.query"), hidden, hidden)?,
        key: names.linear(&format!("{layer}.attention.attention.key"), hidden, hidden)?,
        value: names.linear(&format!("{layer}.attention.attention.value"), hidden, hidden)?,
        attention_output: names.linear(&format!("{layer}.attention.output.dense"), hidden, hidden)?,
        attention_norm: names.layer_norm(&format!("{layer}.layernorm_before"), hidden)?,
        intermediate: names.linear(&format!("{layer}.intermediate.dense"), hidden, intermediate)?,
        output: names.linear(&format!("{layer}.output.dense"), intermediate, hidden)?,
        mlp_norm: names.layer_norm(&format!("{layer}.layernorm_after"), hidden)?,
    })
}

/// What follows the layers.
pub fn head<'a>(config: &Config, weights: &'a Weights) -> Result<HeadTensors<'a>> {
    let (names, is_timm) = names(weights);
    let (hidden, num_labels) = (config.hidden_size, config.labels.len());
    Ok(HeadTensors {
        pooler: PoolerTensors::Norm(names.layer_norm(if is_timm { "norm" } else { "layernorm" }, hidden)?),
        classifier: if is_timm {
            names.linear("head", hidden, num_labels)?
        } else {
            names.classifier(hidden, num_labels)?
        },
    })
}

/// What the projected patches of any picture are added to, `[T, row_stride(hidden_size)]`: the row of the position, and `[CLS]` itself
/// or the projection's bias. (The bias is here, because the patch of `[CLS]` is zero and must stay it.)
pub fn embed((cls, positions, bias): (&Tensor<'_>, &Tensor<'_>, &Tensor<'_>), hidden_size: usize) -> Vec<f32> {
    let (stride, num_tokens) = (row_stride(hidden_size), positions.shape[0]);
    let mut rows = vec![0.0; num_tokens * stride];
    for (position, row) in rows.chunks_exact_mut(stride).enumerate() {
        let row = &mut row[..hidden_size];
        let first = if position == 0 { cls } else { bias };
        first.add_row_to(0, row);
        positions.add_row_to(position, row);
    }
    rows
}

/// Rows of patches out of a picture of the model's size, `[T, row_stride(patch_values)]`, the first (`[CLS]`) zero.
///
/// `channel_values` are the numbers that the network sees for the values of a channel; a patch has channel, row and column in
/// that order, as the projection's weight has.
pub fn patch_rows(image: &ImageConfig, picture: &Picture, channel_values: &[[f32; 256]; NUM_CHANNELS]) -> Vec<f32> {
    let (stride, size) = (row_stride(image.patch_values()), image.patch_size);
    let [grid_height, grid_width] = image.grid();
    let mut rows = vec![0.0; image.num_tokens() * stride];
    for patch in 0..grid_height * grid_width {
        let (top, left) = (patch / grid_width * size, patch % grid_width * size);
        let row = &mut rows[(1 + patch) * stride..][..image.patch_values()];
        for (channel, (values, plane)) in channel_values.iter().zip(row.chunks_exact_mut(size * size)).enumerate() {
            for (y, line) in plane.chunks_exact_mut(size).enumerate() {
                let pixels = &picture.rgb()[((top + y) * picture.width() + left) * NUM_CHANNELS..];
                for (value, pixel) in line.iter_mut().zip(pixels.chunks_exact(NUM_CHANNELS)) {
                    *value = values[usize::from(pixel[channel])];
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Preprocessor;

    /// Of a picture that is no square, in patches whose rows have padding: the numbers that Hugging Face gives, in the order of patches.
    #[test]
    fn patches_are_pixel_values_in_another_order() {
        let image = ImageConfig { image_size: [10, 15], patch_size: 5 };
        let json = r#"{"do_resize": false, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}"#;
        let preprocessor = Preprocessor::from_json(Some(json.as_bytes()), image.image_size).unwrap();
        let picture = Picture::from_rgb(15, 10, (0..450u32).map(|value| (value * 37 % 251) as u8).collect()).unwrap();
        let pixel_values = preprocessor.pixel_values(&picture).unwrap();
        let rows = patch_rows(&image, &picture, &preprocessor.channel_values());
        let stride = row_stride(75);
        assert_eq!((rows.len(), stride), (7 * stride, 80));
        for (at, value) in rows.into_iter().enumerate() {
            let (row, column) = (at / stride, at % stride);
            let expected = if row == 0 || column >= 75 {
                0.0
            } else {
                let (patch, channel) = (row - 1, column / 25);
                let (y, x) = (patch / 3 * 5 + column % 25 / 5, patch % 3 * 5 + column % 5);
                pixel_values[(channel * 10 + y) * 15 + x]
            };
            assert_eq!(value.to_bits(), f32::to_bits(expected), "row {row}, column {column}");
        }
    }
}
