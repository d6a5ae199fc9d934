//! A batch as tensors.

use burn::tensor::{Int, Tensor, TensorData};
use sttabt::InputConfig;
use sttabt::training::Tokens;

use crate::parameters::Place;
use crate::rows::{Kept, Rows};

/// What a network reads.
pub enum BatchInput {
    /// A number for each row.
    Text {
        /// Of the wordpiece.
        ids: Tensor<1, Int>,
        /// 0, or 1 in the second text.
        token_types: Tensor<1, Int>,
        /// Row of the table of positions.
        positions: Tensor<1, Int>,
    },
    /// Patches of pictures, `[N · patches, patch_values]`, and if not all tokens are wanted, the rows of those that are.
    Patches(Tensor<2>, Option<Tensor<1, Int>>),
}

/// Some inputs.
pub struct Batch {
    /// Where their tokens lie.
    pub rows: Rows,
    /// What they are.
    pub input: BatchInput,
    /// Whether some token type is not 0.
    pub has_token_types: bool,
}

/// Whether padding has rows of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As the authors compute.
    Rows,
    /// Each sample for itself.
    None,
}

impl Batch {
    /// Texts or pictures of one model.
    pub fn new(samples: &[&Tokens], input: &InputConfig, padding: Padding, place: &Place) -> Self {
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.len()).collect();
        let rows = match padding {
            Padding::Rows => Rows::padded(&lengths, place),
            Padding::None => Rows::ragged(&lengths, place),
        };
        match input {
            InputConfig::Text(text) => {
                let width = if padding == Padding::Rows { rows.width } else { 0 };
                let numbers = Numbers::of(samples, text.position_offset, width);
                let tensor = |numbers: Vec<i64>| {
                    let num_rows = numbers.len();
                    Tensor::from_data(TensorData::new(numbers, [num_rows]), &place.device)
                };
                let has_token_types = numbers.token_types.iter().any(|&token_type| token_type != 0);
                let input = BatchInput::Text {
                    ids: tensor(numbers.ids),
                    token_types: tensor(numbers.token_types),
                    positions: tensor(numbers.positions),
                };
                Self { rows, input, has_token_types }
            }
            InputConfig::Image(image) => {
                let (num_values, prefix) = (image.patch_values(), image.num_prefix_tokens);
                let mut values = Vec::new();
                for sample in samples {
                    if let Tokens::Patches { rows, num_tokens, .. } = sample {
                        let stride = rows.len() / num_tokens.max(&1);
                        rows.chunks_exact(stride).skip(prefix).for_each(|row| values.extend(&row[..num_values]));
                    }
                }
                let num_patches = values.len() / num_values;
                Self::of_patches(rows, place.tensor_f32(values, [num_patches, num_values]))
            }
        }
    }

    /// The tokens of K_0 alone: `kept` are sorted positions of each sample. Of pictures all tokens are embedded.
    pub fn only(&self, kept: &[Vec<u32>], place: &Place) -> Self {
        let Kept { rows, within } = Kept::of_all(&self.rows, kept, place);
        let input = match &self.input {
            BatchInput::Text { ids, token_types, positions } => {
                let select = |numbers: &Tensor<1, Int>| numbers.clone().select(0, within.clone());
                BatchInput::Text { ids: select(ids), token_types: select(token_types), positions: select(positions) }
            }
            BatchInput::Patches(patches, _) => BatchInput::Patches(patches.clone(), Some(within)),
        };
        Self { rows, input, has_token_types: self.has_token_types }
    }

    /// Pictures whose patches are known already.
    pub fn of_patches(rows: Rows, patches: Tensor<2>) -> Self {
        Self { rows, input: BatchInput::Patches(patches, None), has_token_types: false }
    }
}

#[derive(Default)]
struct Numbers {
    ids: Vec<i64>,
    token_types: Vec<i64>,
    positions: Vec<i64>,
}

impl Numbers {
    /// Filled up with zeros to this many tokens for each text.
    fn of(samples: &[&Tokens], offset: usize, width: usize) -> Self {
        let mut numbers = Self::default();
        for sample in samples {
            let Tokens::Text(text) = sample else { continue };
            let mut next = offset;
            for (&id, &token_type) in text.input_ids.iter().zip(&text.token_type_ids) {
                // As the library's embeddings: a text may hold the padding's token, which has a position of its own.
                let is_padding = offset > 0 && id as usize == offset - 1;
                numbers.ids.push(i64::from(id));
                numbers.token_types.push(i64::from(token_type));
                numbers.positions.push(if is_padding { offset - 1 } else { next } as i64);
                next += usize::from(!is_padding);
            }
            for position in text.input_ids.len()..width {
                numbers.ids.push(0);
                numbers.token_types.push(0);
                numbers.positions.push(position as i64);
            }
        }
        numbers
    }
}
