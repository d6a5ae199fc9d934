//! The first hidden states, as far as the host makes them: rows of tables, and patches of a picture.

use super::config::{ImageConfig, NUM_CHANNELS};
use super::picture::Picture;
use crate::tensor::{Tensor, row_stride};

/// Adds the rows of one input's tokens in the tables to its rows, `[T, row_stride(hidden_size)]`, which are zero. The first position is
/// that of the first token.
///
/// The rows are gathered on the host, so that the table (which no binding may hold) stays where it is.
pub fn text_rows(
    (words, positions, token_types): (&Tensor<'_>, &Tensor<'_>, Option<&Tensor<'_>>),
    hidden_size: usize,
    input_ids: &[u32],
    token_type_ids: &[u32],
    rows: &mut [f32],
) {
    let rows = rows.chunks_exact_mut(row_stride(hidden_size));
    for ((position, row), (&id, &token_type)) in rows.enumerate().zip(input_ids.iter().zip(token_type_ids)) {
        let row = &mut row[..hidden_size];
        words.add_row_to(id as usize, row);
        if let Some(token_types) = token_types {
            token_types.add_row_to(token_type as usize, row);
        }
        positions.add_row_to(position, row);
    }
}

/// What the projected patches of any picture are added to, `[T, row_stride(hidden_size)]`: the row of the position, and an anchor itself
/// or the projection's bias. (The bias is here, because the patch of an anchor is zero and must stay it.)
pub fn image_rows(anchors: &[Tensor<'_>], positions: &Tensor<'_>, bias: &Tensor<'_>, hidden_size: usize) -> Vec<f32> {
    let (stride, num_tokens) = (row_stride(hidden_size), positions.shape[0]);
    let mut rows = vec![0.0; num_tokens * stride];
    for (position, row) in rows.chunks_exact_mut(stride).enumerate() {
        let row = &mut row[..hidden_size];
        anchors.get(position).unwrap_or(bias).add_row_to(0, row);
        positions.add_row_to(position, row);
    }
    rows
}

/// Rows of patches out of a picture of the model's size, `[T, row_stride(patch_values)]`, those of the anchors zero.
///
/// `channel_values` are the numbers that the network sees for the values of a channel; a patch has channel, row and column in
/// that order, as the projection's weight has.
pub fn patch_rows(image: &ImageConfig, picture: &Picture, channel_values: &[[f32; 256]; NUM_CHANNELS]) -> Vec<f32> {
    let (stride, size) = (row_stride(image.patch_values()), image.patch_size);
    let [grid_height, grid_width] = image.grid();
    let mut rows = vec![0.0; image.num_tokens() * stride];
    for patch in 0..grid_height * grid_width {
        let (top, left) = (patch / grid_width * size, patch % grid_width * size);
        let row = &mut rows[(image.num_anchors + patch) * stride..][..image.patch_values()];
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
    use crate::models::preprocessor::Preprocessor;

    /// Of a picture that is no square, in patches whose rows have padding: the numbers that Hugging Face gives, in the order of patches.
    #[test]
    fn patches_are_pixel_values_in_another_order() {
        let image = ImageConfig { image_size: [10, 15], patch_size: 5, num_anchors: 1 };
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
