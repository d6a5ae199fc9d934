//! Where the tokens of a batch lie: packed one after another for the linear layers, and padded for attention.

use burn::tensor::{Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::parameters::Place;

/// The rows of a batch of N samples with at most R tokens each.
#[derive(Clone)]
pub struct Rows {
    /// T of each sample.
    pub lengths: Vec<usize>,
    /// R
    pub width: usize,
    /// 1 on real tokens, `[N, R]`
    pub real: Tensor<2>,
    /// Of each token's row where tokens are averaged: 1/T on real ones, or 1/R on all in a batch with rows for padding; `[N, R]`
    pub weights: Tensor<2>,
    /// The row of each place of `[N, R]`; absent where they are the same.
    pad: Option<Tensor<1, Int>>,
    /// The place of each row.
    unpad: Option<Tensor<1, Int>>,
    /// Where each sample begins.
    starts: Vec<usize>,
}

impl Rows {
    /// Tokens packed without padding: a sample's result does not depend on its neighbours.
    pub fn ragged(lengths: &[usize], place: &Place) -> Self {
        let width = lengths.iter().copied().max().unwrap_or(0);
        let starts: Vec<usize> =
            lengths.iter().scan(0, |next, length| Some(std::mem::replace(next, *next + length))).collect();
        let is_full = lengths.iter().all(|&length| length == width);
        let indices = |values: Vec<i64>| {
            let num_values = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [num_values]), &place.device)
        };
        let pad = || {
            // A place without a token takes any row: it is masked as a key, and nobody reads what it gives as a query.
            let of_sample = |(&start, &length): (&usize, &usize)| {
                (0..width).map(move |token| (start + token.min(length.saturating_sub(1))) as i64).collect::<Vec<_>>()
            };
            indices(starts.iter().zip(lengths).flat_map(of_sample).collect())
        };
        let unpad = || {
            let of_sample =
                |(sample, &length): (usize, &usize)| (0..length).map(move |token| (sample * width + token) as i64);
            indices(lengths.iter().enumerate().flat_map(of_sample).collect())
        };
        let (pad, unpad) = if is_full { (None, None) } else { (Some(pad()), Some(unpad())) };
        Self::new(lengths, width, starts, place, false, (pad, unpad))
    }

    /// With a row for each place, padding included, as the authors compute.
    pub fn padded(lengths: &[usize], place: &Place) -> Self {
        let width = lengths.iter().copied().max().unwrap_or(0);
        let starts = (0..lengths.len()).map(|sample| sample * width).collect();
        Self::new(lengths, width, starts, place, true, (None, None))
    }

    fn new(
        lengths: &[usize],
        width: usize,
        starts: Vec<usize>,
        place: &Place,
        counts_padding: bool,
        (pad, unpad): (Option<Tensor<1, Int>>, Option<Tensor<1, Int>>),
    ) -> Self {
        let shape = [lengths.len(), width];
        let fill = |value: &dyn Fn(usize, usize) -> f64| {
            let values: Vec<f64> = lengths
                .iter()
                .flat_map(|&length| (0..width).map(move |token| (token, length)))
                .map(|(t, l)| value(t, l))
                .collect();
            place.tensor(&values, shape)
        };
        let real = fill(&|token, length| f64::from(token < length));
        let weights = fill(&|token, length| match (counts_padding, token < length) {
            (true, _) => 1.0 / width as f64,
            (false, true) => 1.0 / length as f64,
            (false, false) => 0.0,
        });
        Self { lengths: lengths.to_vec(), width, real, weights, pad, unpad, starts }
    }

    /// 1 on the first tokens, `[N, R]`.
    pub fn anchors(&self, num_anchors: usize) -> Tensor<2> {
        let none = self.real.clone().zeros_like();
        none.slice_fill([0..self.num_samples(), 0..num_anchors.min(self.width)], 1.0)
    }

    /// N
    pub fn num_samples(&self) -> usize {
        self.lengths.len()
    }

    /// Whether some place of `[N, R]` has no token.
    pub fn has_padding(&self) -> bool {
        self.lengths.iter().any(|&length| length != self.width)
    }

    /// Rows as `[N, R, columns]`.
    pub fn pad(&self, rows: Tensor<2>) -> Tensor<3> {
        let columns = rows.dims()[1];
        let rows = match &self.pad {
            Some(pad) => rows.select(0, pad.clone()),
            None => rows,
        };
        rows.reshape([self.num_samples(), self.width, columns])
    }

    /// The rows of tokens out of `[N · R, columns]`.
    pub fn unpad(&self, places: Tensor<2>) -> Tensor<2> {
        match &self.unpad {
            Some(unpad) => places.select(0, unpad.clone()),
            None => places,
        }
    }

    /// A number for each token, `[N, R]`, as a column beside the rows.
    pub fn column(&self, numbers: Tensor<2>) -> Tensor<2> {
        self.unpad(numbers.reshape([self.num_samples() * self.width, 1]))
    }

    /// Where the token at this position of each sample is.
    pub fn token(&self, position: usize, place: &Place) -> Tensor<1, Int> {
        let rows: Vec<i64> = self.starts.iter().map(|start| (start + position) as i64).collect();
        let num_rows = rows.len();
        Tensor::from_data(TensorData::new(rows, [num_rows]), &place.device)
    }

    /// Added to scores: −10⁴ for keys that are padding, `[N, 1, 1, R]`.
    pub fn key_mask(&self) -> Option<Tensor<4>> {
        self.has_padding().then(|| self.masked_keys(&self.real))
    }

    /// The same for all keys that are not present, `[N, R]` of 0 and 1.
    pub fn masked_keys(&self, present: &Tensor<2>) -> Tensor<4> {
        let mask = present.clone().sub_scalar(1.0).mul_scalar(10000.0);
        mask.reshape([self.num_samples(), 1, 1, self.width])
    }

    /// T of each sample, `[N, 1]`
    pub fn counts(&self, place: &Place) -> Tensor<2> {
        let lengths: Vec<f64> = self.lengths.iter().map(|&length| length as f64).collect();
        place.tensor(&lengths, [lengths.len(), 1])
    }
}

/// The tokens that go on after a layer, among those that enter it.
#[derive(Clone)]
pub struct Kept {
    /// Of those that go on.
    pub rows: Rows,
    /// Their rows among those before.
    pub within: Tensor<1, Int>,
}

impl Kept {
    /// `before` and `after` are sorted positions, sample by sample; each of `after` is in `before`.
    pub fn new(before: &[Vec<u32>], after: &[Vec<u32>], place: &Place) -> Self {
        let mut within = Vec::new();
        let mut start = 0;
        for (before, after) in before.iter().zip(after) {
            let row = |position: &u32| before.binary_search(position).unwrap_or(0);
            within.extend(after.iter().map(|position| (start + row(position)) as i64));
            start += before.len();
        }
        let lengths: Vec<usize> = after.iter().map(Vec::len).collect();
        let num_rows = within.len();
        let within = Tensor::from_data(TensorData::new(within, [num_rows]), &place.device);
        Self { rows: Rows::ragged(&lengths, place), within }
    }

    /// Of a batch of which all tokens are there.
    pub fn of_all(all: &Rows, kept: &[Vec<u32>], place: &Place) -> Self {
        let before: Vec<Vec<u32>> = all.lengths.iter().map(|&length| (0..length as u32).collect()).collect();
        Self::new(&before, kept, place)
    }

    /// The rows that go on.
    pub fn select(&self, rows: Tensor<2>) -> Tensor<2> {
        rows.select(0, self.within.clone())
    }
}

/// The tokens that a layer changes; the others stay as they are, and are there for the next layer.
pub struct Open {
    /// Those tokens.
    pub kept: Kept,
    /// Of each token of the batch, its row among all rows and the changed ones behind them.
    places: Tensor<1, Int>,
}

impl Open {
    /// Sorted positions of each sample.
    pub fn new(all: &Rows, open: &[Vec<u32>], place: &Place) -> Self {
        let num_rows: usize = all.lengths.iter().sum();
        let mut places: Vec<i64> = (0..num_rows as i64).collect();
        let mut next = num_rows as i64;
        for (open, start) in open.iter().zip(&all.starts) {
            for &position in open {
                places[start + position as usize] = next;
                next += 1;
            }
        }
        let places = Tensor::from_data(TensorData::new(places, [num_rows]), &place.device);
        Self { kept: Kept::of_all(all, open, place), places }
    }

    /// All rows, some of them changed.
    pub fn put(&self, rows: Tensor<2>, changed: Tensor<2>) -> Tensor<2> {
        Tensor::cat(vec![rows, changed], 0).select(0, self.places.clone())
    }
}

/// The gates of a batch.
pub struct Gates {
    /// G_0 … G_L, `[N, R]` of 0 and 1.
    pub values: Vec<Tensor<2>>,
    /// The tokens of those that are 1, of G_1 … G_L: of what each layer computes.
    pub open: Vec<Open>,
}

impl Gates {
    /// From their values.
    pub fn new(values: Vec<Tensor<2>>, rows: &Rows, place: &Place) -> Result<Self> {
        let open = |gate: &Tensor<2>| {
            let values = gate.clone().without_autodiff().try_into_vec_as::<f32>();
            let values = values.map_err(|error| Error::Device(error.to_string()))?;
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::NoNumber("gates"));
            }
            let of_sample = |row: &[f32]| (0..).zip(row).filter(|(_, value)| **value > 0.5).map(|(at, _)| at).collect();
            let open: Vec<Vec<u32>> = values.chunks_exact(rows.width).map(of_sample).collect();
            Ok(Open::new(rows, &open, place))
        };
        let open = values.iter().skip(1).map(open).collect::<Result<_>>()?;
        Ok(Self { values, open })
    }
}
