//! Resizing bit for bit as Pillow 12.3 does it (`src/libImaging/Resample.c`, and `Image.resize`).
//!
//! It is a convolution over all pixels under the filter, which widens when the picture shrinks. Rows and columns come
//! one after the other, in fixed point. After each, values are rounded and clipped to 8 bits.

use std::f64::consts::PI;

use fearless_simd::{Level, Simd, dispatch};

use super::{Filter, Picture};

/// Bits after the point; 8 are for the value and 2 for the sign and for filters that overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The source pixels of one target pixel: the first, and a weight for each.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Whether columns are resized before rows: those of very tall pictures, which shrink. What is rounded in between is another picture then.
pub(super) fn columns_first(picture: &Picture, height: usize) -> bool {
    picture.height.div_ceil(100) > picture.width && height < picture.height
}

pub(super) fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    let Some(kernel) = Kernel::of(filter) else { return nearest(picture, width, height) };
    // The loops are plain ones, compiled for each instruction set.
    let level = Level::new();
    let rows = |picture: &Picture| {
        let taps = kernel.taps(picture.width, width);
        let rgb = dispatch!(level, simd => simd.vectorize(
            #[inline(always)]
            || resize_rows(&picture.rgb, picture.width, &taps),
        ));
        Picture { width, height: picture.height, rgb }
    };
    let columns = |picture: &Picture| {
        let taps = kernel.taps(picture.height, height);
        let rgb = dispatch!(level, simd => simd.vectorize(
            #[inline(always)]
            || resize_columns(&picture.rgb, 3 * picture.width, &taps),
        ));
        Picture { width: picture.width, height, rgb }
    };
    match (width != picture.width, height != picture.height) {
        (true, true) if columns_first(picture, height) => rows(&columns(picture)),
        (true, true) => columns(&rows(picture)),
        (true, false) => rows(picture),
        (false, true) => columns(picture),
        (false, false) => picture.clone(),
    }
}

#[inline(always)]
fn resize_rows(rgb: &[u8], from: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(rgb.len() / from * taps.len());
    // Four values a pixel, for vectors.
    let mut pixels = vec![[0; 4]; from];
    for row in rgb.chunks_exact(3 * from) {
        for (pixel, rgb) in pixels.iter_mut().zip(row.as_chunks::<3>().0) {
            *pixel = [rgb[0].into(), rgb[1].into(), rgb[2].into(), 0];
        }
        for Taps { first, weights } in taps {
            let mut sums = [HALF; 4];
            for (pixel, weight) in pixels[*first..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += value * weight;
                }
            }
            let [red, green, blue, _] = sums.map(clipped);
            resized.extend([red, green, blue]);
        }
    }
    resized
}

#[inline(always)]
fn resize_columns(rgb: &[u8], row_size: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(row_size * taps.len());
    let mut sums = vec![0; row_size];
    for Taps { first, weights } in taps {
        sums.fill(HALF);
        for (row, weight) in rgb[first * row_size..].chunks_exact(row_size).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        resized.extend(sums.iter().map(|&sum| clipped(sum)));
    }
    resized
}

#[inline(always)]
fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn nearest(picture: &Picture, width: usize, height: usize) -> Picture {
    // Pillow adds the step up rather than multiplying it.
    let places = |from: usize, to: usize| {
        let step = from as f64 / to as f64;
        let mut place = step / 2.0;
        let place_of = move |_| {
            let index = place as usize;
            place += step;
            index.min(from - 1)
        };
        (0..to).map(place_of)
    };
    let columns: Vec<usize> = places(picture.width, width).collect();
    let mut rgb = Vec::with_capacity(3 * width * height);
    for row in places(picture.height, height) {
        let row = &picture.rgb[3 * picture.width * row..];
        rgb.extend(columns.iter().flat_map(|column| &row[3 * column..3 * column + 3]));
    }
    Picture { width, height, rgb }
}

/// A filter and how far it reaches when the picture does not shrink.
struct Kernel {
    support: f64,
    weight: fn(f64) -> f64,
}

impl Kernel {
    fn of(filter: Filter) -> Option<Self> {
        let (support, weight): (f64, fn(f64) -> f64) = match filter {
            Filter::Nearest => return None,
            Filter::Box => (0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }),
            Filter::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
            Filter::Hamming => (1.0, hamming),
            Filter::Bicubic => (2.0, bicubic),
            Filter::Lanczos => (3.0, lanczos),
        };
        Some(Self { support, weight })
    }

    fn taps(&self, from: usize, to: usize) -> Vec<Taps> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = self.support * stretch;
        let taps = |target: usize| {
            let center = (target as f64 + 0.5) * scale;
            // Casts cut off below 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weight = |source: usize| (self.weight)((source as f64 - center + 0.5) * (1.0 / stretch));
            let mut weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let fixed = |weight: f64| (weight * f64::from(1 << PRECISION_BITS) + 0.5_f64.copysign(weight)) as i32;
            Taps { first, weights: weights.into_iter().map(fixed).collect() }
        };
        (0..to).map(taps).collect()
    }
}

fn hamming(x: f64) -> f64 {
    match x.abs() {
        0.0 => 1.0,
        x if x >= 1.0 => 0.0,
        x => (x * PI).sin() / (x * PI) * (0.54 + 0.46 * (x * PI).cos()),
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}
