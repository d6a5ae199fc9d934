//! Which variants an adapter runs fastest: a short measurement, some milliseconds on hardware, of a linear layer and of attention.

use half::f16;

use super::{GpuBackend, GpuIndex, GpuMatrix, Variant, Variants};
use crate::backend::{
    ALL, Activation, AttentionMap, Backend, ChunkLayout, Linear, MapKind, MatrixShape, Region, Rows, Stage,
};
use crate::error::{Error, Result};
use crate::tensor::{Heads, PackedLinear, PackedValues};

/// A batch of sentences in a small model.
const LENGTHS: [usize; 4] = [128; 4];
const NUM_ROWS: usize = 512;
const HEADS: Heads = Heads { num_heads: 12, head_size: 32 };
const WIDTH: usize = 384;
/// Calls that are timed together where one is over too soon: browsers round their timestamps to 100 µs.
const REPEATS: usize = 32;
/// From so many milliseconds on one call tells enough. Software that passes for hardware would take minutes otherwise.
const LONG_MS: f64 = 2.0;
/// How far the variants of attention may be apart: they round differently, and their values are at most 2.
const ATTENTION_TOLERANCE: f32 = 1e-4;

/// Milliseconds of a call of the variants that computed the same as [`Variant::Wide`]; 0 where the adapter has no clock.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantTimes {
    /// Of linear layers.
    pub linear: Vec<(Variant, f64)>,
    /// Of attention with its statistics and its map.
    pub attention: Vec<(Variant, f64)>,
}

impl VariantTimes {
    fn fastest(&self) -> Variants {
        Variants { linear: fastest(&self.linear), attention: fastest(&self.attention) }
    }
}

/// The variant made for hardware, unless it failed or the other one is measurably faster.
fn fastest(times: &[(Variant, f64)]) -> Variant {
    let ms = |wanted| times.iter().find(|(variant, _)| *variant == wanted).map(|(_, ms)| *ms);
    match (ms(Variant::Wide), ms(Variant::Tiled)) {
        (_, None) => Variant::Wide,
        (Some(wide), Some(tiled)) if 0.0 < wide && wide < tiled => Variant::Wide,
        _ => Variant::Tiled,
    }
}

impl GpuBackend {
    /// The variants that this device runs fastest, as [`GpuBackend::time_variants`] finds them.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(super) async fn fastest_variants(&mut self) -> Result<Variants> {
        match self.time_variants().await {
            Ok(times) => Ok(times.fastest()),
            Err(error @ Error::DeviceLost { .. }) => Err(error),
            // Short of memory, perhaps: the variant that needs least.
            Err(_) => Ok(Variants::all(Variant::Wide)),
        }
    }

    /// Runs and times each variant by the adapter's own clock. One that fails, or computes something else than [`Variant::Wide`], is
    /// left out. Between two runs: what is recorded is lost, and stages are not timed after it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], and what [`Backend::create_matrix`] gives.
    pub async fn time_variants(&mut self) -> Result<VariantTimes> {
        self.set_stage_timing(true);
        let chosen = self.variants();
        let times = self.time_both().await;
        self.set_variants(chosen);
        self.set_stage_timing(false);
        self.release();
        times
    }

    async fn time_both(&mut self) -> Result<VariantTimes> {
        Ok(VariantTimes { linear: self.time_linear().await?, attention: self.time_attention().await? })
    }

    /// No two rows of a tile are alike, and no sum is rounded: variants that add in different orders agree to the last bit.
    async fn time_linear(&mut self) -> Result<Vec<(Variant, f64)>> {
        let input = self.filled("calibration, input", WIDTH, 1.0)?;
        let weight = (0..WIDTH).flat_map(|feature| (0..WIDTH).map(move |k| ((5 * feature + k) % 7) as f32 - 3.0));
        let linear = PackedLinear {
            in_features: WIDTH,
            in_stride: WIDTH,
            out_features: WIDTH,
            out_stride: WIDTH,
            weight: PackedValues::F16(weight.map(|value| f16::from_f32(value).to_bits()).collect()),
            bias: vec![0.0; WIDTH],
        };
        let linear = self.create_linear("calibration, weight", &linear)?;
        let mut outputs = [self.create_matrix("calibration, output", NUM_ROWS, WIDTH)?];
        self.time_each(&mut outputs, 0.0, |backend, index, [output]| {
            let call = Linear {
                input: &input,
                linear: &linear,
                features: 0..WIDTH,
                activation: Activation::Identity,
                residual: None,
                rows: Rows { level: ALL, bound: NUM_ROWS },
                output_column: 0,
            };
            backend.linear(call, index, output)
        })
        .await
    }

    /// All three kernels of attention go by one choice. A map of [`MapKind::MeanPhi`] with the context runs each of them once.
    async fn time_attention(&mut self) -> Result<Vec<(Variant, f64)>> {
        let qkv = self.filled("calibration, qkv", 3 * WIDTH, 1.0 / 24.0)?;
        let num_map_values = LENGTHS.iter().map(|length| length * length).sum();
        let mut outputs = [
            self.create_matrix("calibration, context", NUM_ROWS, WIDTH)?,
            self.create_matrix("calibration, stats", NUM_ROWS, 2 * HEADS.num_heads)?,
            self.create_matrix("calibration, maps", 1, num_map_values)?,
        ];
        self.time_each(&mut outputs, ATTENTION_TOLERANCE, |backend, index, [context, stats, maps]| {
            let rows = Rows { level: ALL, bound: NUM_ROWS };
            let call = AttentionMap { qkv: &qkv, heads: HEADS, kind: MapKind::MeanPhi, rows, layer: 0 };
            backend.attention_maps(call, index, stats, maps, Some(context))
        })
        .await
    }

    /// A matrix of whole numbers from −48 to 48, times `scale`.
    fn filled(&mut self, label: &'static str, width: usize, scale: f32) -> Result<GpuMatrix> {
        let mut matrix = self.create_matrix(label, NUM_ROWS, width)?;
        let number = |row: usize, k: usize| ((7 * row + 3 * k) % 97) as f32 - 48.0;
        let values = (0..NUM_ROWS).flat_map(|row| (0..width).map(move |k| scale * number(row, k)));
        self.write_matrix(&mut matrix, 0, &values.collect::<Vec<f32>>())?;
        Ok(matrix)
    }

    /// Milliseconds of each variant whose outputs are as near to the first one's as `tolerance` says.
    async fn time_each<const N: usize>(
        &mut self,
        outputs: &mut [GpuMatrix; N],
        tolerance: f32,
        record: impl Fn(&mut Self, &GpuIndex, &mut [GpuMatrix; N]) -> Result<()>,
    ) -> Result<Vec<(Variant, f64)>> {
        let (layout, words) = ChunkLayout::host_words(&LENGTHS, 1, &[], 1);
        let mut index = self.create_index(layout.num_words())?;
        let mut expected = None;
        let mut times = Vec::new();
        for variant in Variant::ALL {
            self.set_variants(Variants::all(variant));
            match self.time_one(outputs, &mut index, layout, &words, &record).await {
                Ok((ms, values)) => {
                    let expected = expected.get_or_insert_with(|| values.clone());
                    // Not a NaN either.
                    if expected.iter().zip(&values).all(|(one, other)| (one - other).abs() <= tolerance) {
                        times.push((variant, ms));
                    }
                }
                Err(error @ Error::DeviceLost { .. }) => return Err(error),
                // A shader that the driver refuses is none to choose.
                Err(_) => {}
            }
        }
        Ok(times)
    }

    /// Milliseconds of a call, and what it leaves behind.
    async fn time_one<const N: usize>(
        &mut self,
        outputs: &mut [GpuMatrix; N],
        index: &mut GpuIndex,
        layout: ChunkLayout,
        words: &[u32],
        record: impl Fn(&mut Self, &GpuIndex, &mut [GpuMatrix; N]) -> Result<()>,
    ) -> Result<(f64, Vec<f32>)> {
        // What the variant before left there is no result of this one.
        for output in outputs.iter_mut() {
            self.write_matrix(output, 0, &vec![f32::NAN; output.num_rows() * output.stride()])?;
        }
        let (mut values, mut ms) = (Vec::new(), 0.0);
        // The first round makes the pipelines, and tells how long a call takes.
        for is_first in [true, false] {
            let repeats = if !is_first && 0.0 < ms && ms < LONG_MS { REPEATS } else { 1 };
            self.begin_chunk(index, layout, words)?;
            self.begin_stage(Stage::Head);
            for _ in 0..repeats {
                record(self, index, outputs)?;
            }
            self.take_stages_ms();
            let regions = outputs.each_ref().map(|output| Region::Matrix(output, output.num_rows()));
            values = self.read(&regions).await?.concat();
            ms = self.take_stages_ms().iter().map(|(_, ms)| ms).sum::<f64>() / repeats as f64;
        }
        Ok((ms, values.into_iter().map(f32::from_bits).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measurably_faster_is_taken_on_hardware() {
        let [wide, tiled] = Variant::ALL;
        for (times, expected) in [
            (vec![], wide),
            (vec![(wide, 0.1)], wide),
            (vec![(tiled, 0.1)], tiled),
            (vec![(wide, 0.0), (tiled, 0.0)], tiled),
            (vec![(wide, 0.1), (tiled, 0.1)], tiled),
            (vec![(wide, 0.0), (tiled, 0.1)], tiled),
            (vec![(wide, 0.2), (tiled, 0.1)], tiled),
            (vec![(wide, 0.1), (tiled, 0.2)], wide),
        ] {
            assert_eq!(fastest(&times), expected, "{times:?}");
        }
    }
}
