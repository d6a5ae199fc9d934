//! AdamW with clipping of the gradient's global norm, on the host: in one pass over the values of every parameter.
//!
//! Burn's own takes f32 constants, so that f64 runs differ from PyTorch's; and it needs ten passes over each parameter.

use burn::tensor::{DType, Element, Tensor, TensorData};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::parameters::{Parameter, Parameters};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;
/// Values that one thread updates at a time.
const CHUNK: usize = 1 << 16;

/// How fast a parameter learns, and how fast it fades.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Multiplies the step's rate.
    pub rate_factor: f64,
    /// Of the values, before each step, times the rate.
    pub decay: f64,
}

/// The optimiser's memory of one parameter.
pub struct Moments {
    /// Mean of the gradient.
    pub first: TensorData,
    /// Mean of its square.
    pub second: TensorData,
}

/// The optimiser.
pub struct AdamW {
    groups: Vec<Group>,
    /// The largest global norm of the gradient.
    clip: Option<f64>,
    /// Of each parameter that ever had a gradient.
    pub moments: Vec<Option<Moments>>,
    /// Steps that were taken.
    pub num_steps: u64,
}

/// The numbers of a gradient, one entry for each parameter.
pub struct GradientValues(Vec<Option<TensorData>>);

impl GradientValues {
    /// Reads gradients; what never learns gets zeros.
    pub fn read(parameters: &Parameters, gradients: Vec<Option<Tensor<1>>>) -> Result<Self> {
        let read = |(parameter, gradient): (&Parameter, Option<Tensor<1>>)| {
            let Some(gradient) = gradient else { return Ok(None) };
            let mut data = gradient.try_into_data().map_err(|error| Error::Device(error.to_string()))?;
            if let Some(frozen) = parameter.frozen_values() {
                match data.dtype() {
                    DType::F64 => slice_mut::<f64>(&mut data)?[frozen].fill(0.0),
                    _ => slice_mut::<f32>(&mut data)?[frozen].fill(0.0),
                }
            }
            Ok(Some(data))
        };
        parameters.list.iter().zip(gradients).map(read).collect::<Result<_>>().map(Self)
    }

    /// The values of one, in the order of a file.
    pub fn values(&self, parameters: &Parameters, at: usize) -> Result<Option<Vec<f64>>> {
        let Some(data) = &self.0[at] else { return Ok(None) };
        let tensor = Tensor::<1>::from_data(data.clone(), (&parameters.place.device, data.dtype()));
        parameters.list[at].in_file_order(&tensor).map(Some)
    }

    /// The names of trained parameters without a gradient.
    pub fn missing<'a>(&self, parameters: &'a Parameters) -> Vec<&'a str> {
        let missing = parameters.list.iter().zip(&self.0).filter(|(one, data)| one.is_trained && data.is_none());
        missing.map(|(parameter, _)| &*parameter.name).collect()
    }

    /// The length of all together.
    pub fn norm(&self) -> Result<f64> {
        let square = |data: &Option<TensorData>| match data {
            None => Ok(0.0),
            Some(data) if data.dtype() == DType::F64 => Ok(sum_of_squares(slice::<f64>(data)?)),
            Some(data) => Ok(sum_of_squares(slice::<f32>(data)?)),
        };
        self.0.iter().map(square).sum::<Result<f64>>().map(f64::sqrt)
    }
}

fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let sums: Vec<f64> =
        values.par_chunks(CHUNK).map(|chunk| chunk.iter().map(|v| v.wide() * v.wide()).sum()).collect();
    sums.into_iter().sum()
}

fn slice<T: Element>(data: &TensorData) -> Result<&[T]> {
    data.as_slice().map_err(|error| Error::Device(format!("{error:?}")))
}

fn slice_mut<T: Element>(data: &mut TensorData) -> Result<&mut [T]> {
    data.as_mut_slice().map_err(|error| Error::Device(format!("{error:?}")))
}

impl AdamW {
    /// One group for each parameter.
    pub fn new(groups: Vec<Group>, clip: Option<f64>) -> Self {
        let moments = groups.iter().map(|_| None).collect();
        Self { groups, clip, moments, num_steps: 0 }
    }

    /// One step at this rate. Parameters without a gradient stay as they are, decay included. Gives the norm before clipping.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &GradientValues, rate: f64) -> Result<f64> {
        let norm = gradients.norm()?;
        let scale = self.clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        self.num_steps += 1;
        let corrected = |beta: f64| 1.0 - beta.powi(self.num_steps.min(i32::MAX as u64) as i32);
        let corrections = [corrected(BETA_1), corrected(BETA_2)];
        let place = parameters.place.clone();
        for (at, parameter) in parameters.list.iter_mut().enumerate() {
            let Some(gradient) = &gradients.0[at] else { continue };
            let group = self.groups[at];
            let rate = rate * group.rate_factor;
            let keep = 1.0 - rate * group.decay;
            let factors = Factors { scale, rate, keep, corrections };
            let value = std::mem::replace(&mut parameter.value, place.zeros([1]));
            let mut value = value.try_into_data().map_err(|error| Error::Device(error.to_string()))?;
            let zeros = || TensorData::full_dtype([value.num_elements()], 0.0, value.dtype());
            let moments = self.moments[at].get_or_insert_with(|| Moments { first: zeros(), second: zeros() });
            match value.dtype() {
                DType::F64 => update::<f64>(&mut value, gradient, moments, factors)?,
                _ => update::<f32>(&mut value, gradient, moments, factors)?,
            }
            let dtype = value.dtype();
            parameter.value = Tensor::from_data(value, (&place.device, dtype));
        }
        Ok(norm)
    }
}

#[derive(Clone, Copy)]
struct Factors {
    scale: f64,
    rate: f64,
    keep: f64,
    corrections: [f64; 2],
}

trait Real: Element + Copy + Send + Sync {
    fn narrow(value: f64) -> Self;
    fn wide(self) -> f64;
    fn step(values: [&mut [Self]; 3], gradient: &[Self], factors: Factors);
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn narrow(value: f64) -> Self {
                value as $type
            }

            fn wide(self) -> f64 {
                f64::from(self)
            }

            fn step([values, first, second]: [&mut [Self]; 3], gradient: &[Self], factors: Factors) {
                let narrow = <$type as Real>::narrow;
                let Factors { scale, rate, keep, corrections } = factors;
                let (scale, keep, eps) = (narrow(scale), narrow(keep), narrow(EPS));
                let [keep_1, keep_2, new_1, new_2] = [BETA_1, BETA_2, 1.0 - BETA_1, 1.0 - BETA_2].map(narrow);
                let (rate, root) = (narrow(rate / corrections[0]), narrow(corrections[1].sqrt().recip()));
                let all = values.iter_mut().zip(first).zip(second).zip(gradient);
                for (((value, first), second), &gradient) in all {
                    let gradient = gradient * scale;
                    *first = keep_1 * *first + new_1 * gradient;
                    *second = keep_2 * *second + new_2 * (gradient * gradient);
                    *value = keep * *value - rate * (*first / (second.sqrt() * root + eps));
                }
            }
        }
    };
}

real!(f32);
real!(f64);

fn update<T: Real>(
    value: &mut TensorData,
    gradient: &TensorData,
    moments: &mut Moments,
    factors: Factors,
) -> Result<()> {
    let values = slice_mut::<T>(value)?.par_chunks_mut(CHUNK);
    let first = slice_mut::<T>(&mut moments.first)?.par_chunks_mut(CHUNK);
    let second = slice_mut::<T>(&mut moments.second)?.par_chunks_mut(CHUNK);
    let gradient = slice::<T>(gradient)?.par_chunks(CHUNK);
    values.zip(first).zip(second).zip(gradient).for_each(|(((values, first), second), gradient)| {
        T::step([values, first, second], gradient, factors);
    });
    Ok(())
}
