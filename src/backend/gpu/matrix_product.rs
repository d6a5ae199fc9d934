//! The variants of the matrix products, of linear layers and of attention, and which one an adapter runs fastest: a short measurement,
//! some milliseconds on hardware.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use half::f16;

use super::{AdapterDescription, GpuBackend, GpuIndex, GpuLinear, GpuMatrix};
use crate::backend::{ALL, Activation, Backend, ChunkLayout, Linear, Region, Rows, Stage};
use crate::error::{Error, Result};
use crate::tensor::{PackedLinear, PackedValues};

/// How a matrix product is cut into workgroups, those of attention included.
///
/// All compute in f32, whatever the weights are. With inputs rounded to f16, as f16 arithmetic would have them, ApproxNet keeps other
/// tokens: under `topk:0.5` in 6 of 300 sentences of SST-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixProduct {
    /// Independent invocations with a tile each, without workgroup memory: for adapters that are software.
    Wide,
    /// A tile to a workgroup, in its memory, and blocks of it in registers: for hardware.
    Tiled,
    /// The same, but linear layers hand their inputs around in subgroups in place of workgroup memory: for hardware that is good at it.
    /// Through Vulkan and Direct3D only: to browsers wgpu 30 does not pass the feature on, and of Metal it does not know how large
    /// subgroups are.
    Subgroups,
}

impl MatrixProduct {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Wide, Self::Tiled, Self::Subgroups];

    /// Invocations that a subgroup must have, as in the shader.
    const MIN_SUBGROUP_SIZE: u32 = 8;

    /// Whether an adapter has what it needs.
    pub fn runs_on(self, adapter: &AdapterDescription) -> bool {
        self != Self::Subgroups || adapter.min_subgroup_size >= Self::MIN_SUBGROUP_SIZE
    }
}

impl fmt::Display for MatrixProduct {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wide => "wide",
            Self::Tiled => "tiled",
            Self::Subgroups => "subgroups",
        })
    }
}

/// As of a batch of sentences in a small model.
const NUM_ROWS: usize = 512;
const IN_FEATURES: usize = 384;
const OUT_FEATURES: usize = 384;
/// Browsers round their timestamps to 100 µs.
const REPEATS: usize = 32;

/// What was chosen in this process, so that a device that replaces another one does not measure again.
static CHOSEN: Mutex<Vec<(AdapterDescription, MatrixProduct)>> = Mutex::new(Vec::new());

/// The variant to take: without a clock the one made for hardware, else that too unless another one is measurably faster.
fn fastest(times: &[(MatrixProduct, f64)]) -> MatrixProduct {
    let ms = |wanted: MatrixProduct| times.iter().find(|(product, _)| *product == wanted).map(|(_, ms)| *ms);
    if times.is_empty() {
        return MatrixProduct::Tiled;
    }
    let first = (MatrixProduct::Tiled, ms(MatrixProduct::Tiled).unwrap_or(f64::INFINITY));
    let others = times.iter().filter(|(_, ms)| *ms > 0.0);
    others.fold(first, |best, other| if other.1 < best.1 { *other } else { best }).0
}

/// What the variants compute to be timed and checked.
struct Trial {
    index: GpuIndex,
    layout: ChunkLayout,
    words: Vec<u32>,
    input: GpuMatrix,
    linear: GpuLinear,
    output: GpuMatrix,
}

impl GpuBackend {
    /// The variant that this adapter runs fastest: measured once in a process, as of [`GpuBackend::time_matrix_products`].
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub async fn fastest_matrix_product(&mut self) -> Result<MatrixProduct> {
        let chosen = || CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |chosen: &[(AdapterDescription, MatrixProduct)], adapter: &AdapterDescription| {
            chosen.iter().find(|(known, _)| known == adapter).map(|(_, product)| *product)
        };
        if let Some(product) = known(&chosen(), self.adapter()) {
            return Ok(product);
        }
        let product = match self.time_matrix_products().await {
            Ok(times) => fastest(&times),
            Err(error @ Error::DeviceLost { .. }) => return Err(error),
            // Short of memory, perhaps: the next device may be luckier.
            Err(_) => return Ok(MatrixProduct::Wide),
        };
        let mut chosen = chosen();
        // Of two that measured at the same time the first one decides, so that all engines compute the same bits.
        if let Some(product) = known(&chosen, self.adapter()) {
            return Ok(product);
        }
        chosen.push((self.adapter().clone(), product));
        Ok(product)
    }

    /// Milliseconds of each variant that runs on this adapter and computes there what [`MatrixProduct::Wide`] does, by the adapter's own
    /// clock, of a linear layer, which stands for all; nothing where it has none. Between two runs: what is recorded is lost, and stages
    /// are not timed after it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], and what [`Backend::create_matrix`] gives.
    pub async fn time_matrix_products(&mut self) -> Result<Vec<(MatrixProduct, f64)>> {
        if !self.set_stage_timing(true) {
            return Ok(Vec::new());
        }
        let chosen = self.matrix_product();
        let times = self.time_each().await;
        self.recorder.matrix_product = chosen;
        self.set_stage_timing(false);
        self.release();
        times
    }

    async fn time_each(&mut self) -> Result<Vec<(MatrixProduct, f64)>> {
        let mut trial = self.trial()?;
        let mut expected = None;
        let mut times = Vec::new();
        for product in MatrixProduct::ALL {
            if !product.runs_on(self.adapter()) {
                continue;
            }
            self.recorder.matrix_product = product;
            match self.time_trial(&mut trial).await {
                Ok((ms, output)) => {
                    if *expected.get_or_insert_with(|| output.clone()) == output {
                        times.push((product, ms));
                    }
                }
                Err(error @ Error::DeviceLost { .. }) => return Err(error),
                // A shader that the driver refuses is none to choose.
                Err(_) => {}
            }
        }
        Ok(times)
    }

    /// No two rows of a tile are alike, and no sum is rounded: variants that add in different orders agree to the last bit.
    fn trial(&mut self) -> Result<Trial> {
        let (layout, words) = ChunkLayout::host_words(&[NUM_ROWS], 1, &[]);
        let index = self.create_index(layout.num_words())?;
        let mut input = self.create_matrix("matrix product, input", NUM_ROWS, IN_FEATURES)?;
        let values =
            (0..NUM_ROWS).flat_map(|row| (0..IN_FEATURES).map(move |k| ((7 * row + 3 * k) % 97) as f32 - 48.0));
        self.write_matrix(&mut input, 0, &values.collect::<Vec<f32>>())?;
        let output = self.create_matrix("matrix product, output", NUM_ROWS, OUT_FEATURES)?;
        let weight =
            (0..OUT_FEATURES).flat_map(|feature| (0..IN_FEATURES).map(move |k| ((5 * feature + k) % 7) as f32 - 3.0));
        let linear = PackedLinear {
            in_features: IN_FEATURES,
            in_stride: IN_FEATURES,
            out_features: OUT_FEATURES,
            out_stride: OUT_FEATURES,
            weight: PackedValues::F16(weight.map(|value| f16::from_f32(value).to_bits()).collect()),
            bias: vec![0.0; OUT_FEATURES],
        };
        let linear = self.create_linear("matrix product, weight", &linear)?;
        Ok(Trial { index, layout, words, input, linear, output })
    }

    /// Milliseconds of the repeats, and what they leave behind.
    async fn time_trial(&mut self, trial: &mut Trial) -> Result<(f64, Vec<f32>)> {
        let Trial { index, layout, words, input, linear, output } = trial;
        // What the variant before left there is no result of this one.
        self.write_matrix(output, 0, &vec![f32::NAN; NUM_ROWS * OUT_FEATURES])?;
        let mut values = Vec::new();
        // The first round makes the pipeline.
        for _ in 0..2 {
            self.begin_chunk(index, *layout, words)?;
            self.begin_stage(Stage::Head);
            for _ in 0..REPEATS {
                let call = Linear {
                    input,
                    linear,
                    features: 0..OUT_FEATURES,
                    activation: Activation::Identity,
                    residual: None,
                    rows: Rows { level: ALL, bound: NUM_ROWS },
                    output_column: 0,
                };
                self.linear(call, index, output)?;
            }
            self.take_stages_ms();
            values = self.read(&[Region::Matrix(output, NUM_ROWS)]).await?.concat();
        }
        let ms = self.take_stages_ms().iter().map(|(_, ms)| ms).sum();
        Ok((ms, values.into_iter().map(f32::from_bits).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measurably_faster_is_taken_on_hardware() {
        let [wide, tiled, subgroups] = MatrixProduct::ALL;
        for (times, expected) in [
            (vec![], tiled),
            (vec![(wide, 0.1), (tiled, 0.1)], tiled),
            (vec![(wide, 0.0), (tiled, 0.1)], tiled),
            (vec![(wide, 0.2), (tiled, 0.1)], tiled),
            (vec![(wide, 0.1), (tiled, 0.2)], wide),
            (vec![(wide, 0.1)], wide),
            (vec![(wide, 0.2), (subgroups, 0.1)], subgroups),
            (vec![(wide, 0.2), (tiled, 0.2), (subgroups, 0.1)], subgroups),
            (vec![(wide, 0.1), (tiled, 0.3), (subgroups, 0.2)], wide),
            (vec![(wide, 0.3), (tiled, 0.2), (subgroups, 0.0)], tiled),
        ] {
            assert_eq!(fastest(&times), expected, "{times:?}");
        }
    }
}
