//! The first hidden states, as far as the host makes them: rows of tables, and patches of a picture.

use super::config::{ImageConfig, NUM_CHANNELS};
use super::picture::Picture;
use crate::tensor::{Tensor, row_stride};

/// What the embedding of a wordpiece is the sum of.
pub struct Tables<'a> {
    pub words: &'a Tensor<'a>,
    pub positions: &'a Tensor<'a>,
    pub token_types: Option<&'a Tensor<'a>>,
    /// Rows of `positions` before that of the first token; the last of them is that of padding, and that of its id.
    pub offset: usize,
}

impl Tables<'_> {
    /// Adds the rows of one input's tokens to its rows, `[T, row_stride(width)]`, which are zero.
    ///
    /// The rows are gathered on the host, so that the table (which no binding may hold) stays where it is.
    pub fn add_rows(&self, width: usize, input_ids: &[u32], token_type_ids: &[u32], rows: &mut [f32]) {
        let mut next = self.offset;
        let rows = rows.chunks_exact_mut(row_stride(width));
        for (row, (&id, &token_type)) in rows.zip(input_ids.iter().zip(token_type_ids)) {
            let row = &mut row[..width];
            self.words.add_row_to(id as usize, row);
            if let Some(token_types) = self.token_types {
                token_types.add_row_to(token_type as usize, row);
            }
            // Hugging Face's `create_position_ids_from_input_ids`: a text may hold the padding's token.
            let is_padding = self.offset > 0 && id as usize == self.offset - 1;
            self.positions.add_row_to(if is_padding { self.offset - 1 } else { next }, row);
            next += usize::from(!is_padding);
        }
    }
}

/// What the projected patches of any picture are added to, `[T, row_stride(hidden_size)]`: the row of the position, and a learned token
/// itself or the projection's bias. (The bias is here, because the patch of a learned token is zero and must stay it.)
pub fn image_rows(
    prefix: &[Tensor<'_>],
    positions: &Tensor<'_>,
    [table, grid]: [[usize; 2]; 2],
    bias: &Tensor<'_>,
    hidden_size: usize,
) -> Vec<f32> {
    let stride = row_stride(hidden_size);
    let mut rows = vec![0.0; (prefix.len() + grid[0] * grid[1]) * stride];
    for (place, row) in rows.chunks_exact_mut(stride).enumerate() {
        let row = &mut row[..hidden_size];
        match place.checked_sub(prefix.len()) {
            None => {
                prefix[place].add_row_to(0, row);
                positions.add_row_to(place, row);
            }
            Some(patch) => {
                bias.add_row_to(0, row);
                if table == grid {
                    positions.add_row_to(place, row);
                } else {
                    let at = [patch / grid[1], patch % grid[1]];
                    add_resized(positions, prefix.len(), [table, grid], at, row);
                }
            }
        }
    }
    rows
}

/// Adds the position of a place of the second grid, out of a table for the first. It is bicubic as in PyTorch's
/// `interpolate` (a = -0.75, corners not aligned), which Hugging Face's `interpolate_pos_encoding` calls.
fn add_resized(
    positions: &Tensor<'_>,
    first: usize,
    [table, grid]: [[usize; 2]; 2],
    place: [usize; 2],
    row: &mut [f32],
) {
    // Along each side: four places of the table, and their weights.
    let taps: [[(usize, f64); 4]; 2] = std::array::from_fn(|side| {
        let at = (place[side] as f64 + 0.5) * table[side] as f64 / grid[side] as f64 - 0.5;
        let last = table[side] as i64 - 1;
        std::array::from_fn(|tap| {
            let source = at.floor() as i64 - 1 + tap as i64;
            (source.clamp(0, last) as usize, cubic((at - source as f64).abs()))
        })
    });
    let mut sums = vec![0.0; row.len()];
    for (y, weight_y) in taps[0] {
        for (x, weight_x) in taps[1] {
            let values = positions.values_in((first + y * table[1] + x) * row.len(), row.len());
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight_y * weight_x * f64::from(value));
        }
    }
    row.iter_mut().zip(sums).for_each(|(value, sum)| *value += sum as f32);
}

/// Keys' cubic convolution kernel.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let d = distance;
    if d <= 1.0 {
        ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * A
    } else {
        0.0
    }
}

/// Rows of patches out of a picture of the model's size, `[T, row_stride(patch_values)]`, those of learned tokens zero.
///
/// `channel_values` are the numbers that the network sees for the values of a channel; a patch has channel, row and column in
/// that order, as the projection's weight has.
pub fn patch_rows(image: &ImageConfig, picture: &Picture, channel_values: &[[f32; 256]; NUM_CHANNELS]) -> Vec<f32> {
    let (stride, size) = (row_stride(image.patch_values()), image.patch_size);
    let [grid_height, grid_width] = image.grid();
    let mut rows = vec![0.0; image.num_tokens() * stride];
    for patch in 0..grid_height * grid_width {
        let (top, left) = (patch / grid_width * size, patch % grid_width * size);
        let row = &mut rows[(image.num_prefix_tokens + patch) * stride..][..image.patch_values()];
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
        let image = ImageConfig { image_size: [10, 15], patch_size: 5, num_prefix_tokens: 1, table_grid: [2, 3] };
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
