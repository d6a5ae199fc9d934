//! The variants of the matrix product, and which one an adapter runs fastest: a short measurement, some milliseconds on hardware.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use half::f16;

use super::{AdapterDescription, GpuBackend};
use crate::backend::{ALL, Activation, Backend, ChunkLayout, Linear, Region, Rows, Stage};
use crate::error::{Error, Result};
use crate::tensor::{PackedLinear, PackedValues};

/// How a matrix product is cut into workgroups.
///
/// All compute in f32, whatever the weights are. With inputs rounded to f16, as f16 arithmetic would have them, ApproxNet keeps other
/// tokens: under `topk:0.5` in 6 of 300 sentences of SST-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixProduct {
    /// Wide independent tiles without workgroup memory: for adapters that are software.
    Wide,
    /// Tiles in workgroup memory, and blocks of them in registers: for hardware.
    Tiled,
    /// The same with inputs handed around in subgroups in place of workgroup memory: for hardware that is good at it.
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

/// The variant to take; the one made for hardware unless another one is measurably faster.
fn fastest(times: &[(MatrixProduct, f64)]) -> MatrixProduct {
    let ms = |wanted: MatrixProduct| times.iter().find(|(product, _)| *product == wanted).map(|(_, ms)| *ms);
    let Some(tiled) = ms(MatrixProduct::Tiled) else { return MatrixProduct::Tiled };
    let others = times.iter().filter(|(_, ms)| *ms > 0.0);
    others.fold((MatrixProduct::Tiled, tiled), |best, other| if other.1 < best.1 { *other } else { best }).0
}

impl GpuBackend {
    /// The variant that this adapter runs fastest: measured once in a process, as of [`GpuBackend::time_matrix_products`].
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub async fn fastest_matrix_product(&mut self) -> Result<MatrixProduct> {
        let chosen = || CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = chosen().iter().find(|(adapter, _)| adapter == self.adapter()).map(|(_, product)| *product);
        if let Some(product) = known {
            return Ok(product);
        }
        let product = match self.time_matrix_products().await {
            Ok(times) => fastest(&times),
            Err(error @ Error::DeviceLost { .. }) => return Err(error),
            // What cannot be measured may not run either.
            Err(_) => MatrixProduct::Wide,
        };
        chosen().push((self.adapter().clone(), product));
        Ok(product)
    }

    /// Milliseconds of each variant that runs on this adapter, by its own clock; nothing where it has none. Between two runs: what is
    /// recorded is lost, and stages are not timed after it.
    ///
    /// # Errors
    /// As of [`Backend::read`].
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
        let (layout, words) = ChunkLayout::host_words(&[NUM_ROWS], 1, &[]);
        let mut index = self.create_index(layout.num_words())?;
        let input = self.create_matrix("matrix product, input", NUM_ROWS, IN_FEATURES)?;
        let mut output = self.create_matrix("matrix product, output", NUM_ROWS, OUT_FEATURES)?;
        let linear = PackedLinear {
            in_features: IN_FEATURES,
            in_stride: IN_FEATURES,
            out_features: OUT_FEATURES,
            out_stride: OUT_FEATURES,
            weight: PackedValues::F16(vec![f16::ONE.to_bits(); IN_FEATURES * OUT_FEATURES]),
            bias: vec![0.0; OUT_FEATURES],
        };
        let linear = self.create_linear("matrix product, weight", &linear)?;
        let products = MatrixProduct::ALL.into_iter().filter(|product| product.runs_on(self.adapter()));
        let products: Vec<MatrixProduct> = products.collect();
        let mut times = Vec::new();
        // The first round makes the pipelines.
        for _ in 0..2 {
            self.begin_chunk(&mut index, layout, &words)?;
            for (place, product) in products.iter().enumerate() {
                self.recorder.matrix_product = *product;
                self.begin_stage(Stage::Layer(place));
                for _ in 0..REPEATS {
                    let call = Linear {
                        input: &input,
                        linear: &linear,
                        features: 0..OUT_FEATURES,
                        activation: Activation::Identity,
                        residual: None,
                        rows: Rows { level: ALL, bound: NUM_ROWS },
                        output_column: 0,
                    };
                    self.linear(call, &index, &mut output)?;
                }
            }
            self.read(&[Region::Matrix(&output, 1)]).await?;
            times = self.take_stages_ms();
        }
        let product = |(stage, ms): &(Stage, f64)| match stage {
            Stage::Layer(place) => Some((*products.get(*place)?, *ms)),
            _ => None,
        };
        Ok(times.iter().filter_map(product).collect())
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
            (vec![(wide, 0.1)], tiled),
            (vec![(wide, 0.2), (tiled, 0.2), (subgroups, 0.1)], subgroups),
            (vec![(wide, 0.1), (tiled, 0.3), (subgroups, 0.2)], wide),
            (vec![(wide, 0.3), (tiled, 0.2), (subgroups, 0.0)], tiled),
        ] {
            assert_eq!(fastest(&times), expected, "{times:?}");
        }
    }
}
