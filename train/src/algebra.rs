//! Small dense matrices in f64, of sums over many rows of tensors.

use burn::tensor::Tensor;
use nalgebra::linalg::Cholesky;
use nalgebra::{DMatrix, Dyn};

use crate::error::{Error, Result};

/// A matrix.
pub type Matrix = DMatrix<f64>;

/// The share of its own square sum that is added to each feature's: features that others explain would get weights without bound.
const RIDGE: f64 = 1e-3;
/// The same for features that are always 0.
const TINY: f64 = 1e-9;

/// A tensor's values.
pub fn matrix(tensor: Tensor<2>) -> Result<Matrix> {
    let [rows, columns] = tensor.dims();
    let values = tensor.try_into_vec_as::<f32>().map_err(|error| Error::Device(error.to_string()))?;
    Ok(Matrix::from_row_iterator(rows, columns, values.into_iter().map(f64::from)))
}

/// Row by row, as tensors lie in memory.
pub fn values(matrix: &Matrix) -> Vec<f64> {
    matrix.transpose().as_slice().to_vec()
}

/// Sums over rows a, which end with a 1, and b: all that a linear regression of b on a needs.
#[derive(Default)]
pub struct Moments {
    /// Σ aᵀ a
    gram: Option<Matrix>,
    /// Σ aᵀ b
    cross: Option<Matrix>,
}

impl Moments {
    /// Adds rows of both; the 1 is added here.
    pub fn add(&mut self, features: &Tensor<2>, targets: &Tensor<2>) -> Result<()> {
        let features = with_ones(features);
        add(&mut self.gram, &features, &features)?;
        add(&mut self.cross, &features, targets)
    }

    /// Adds rows of a alone.
    pub fn add_features(&mut self, features: &Tensor<2>) -> Result<()> {
        let features = with_ones(features);
        add(&mut self.gram, &features, &features)
    }

    fn gram(&self) -> Result<&Matrix> {
        self.gram.as_ref().ok_or_else(|| Error::Failed("a regression without rows".to_owned()))
    }

    /// W of b ≈ a W; its last row is the bias.
    pub fn solve(&self) -> Result<Matrix> {
        let cross = self.cross.as_ref().ok_or_else(|| Error::Failed("a regression without rows".to_owned()))?;
        Ok(factor(self.gram()?.clone())?.solve(cross))
    }

    /// Lower L with L Lᵀ = Σ aᵀ a / N.
    pub fn factor(&self) -> Result<Matrix> {
        let gram = self.gram()?;
        Ok(factor(gram / gram[(gram.nrows() - 1, gram.nrows() - 1)])?.l())
    }

    /// Lower L with L Lᵀ = covariance of a without its 1.
    pub fn centred_factor(&self) -> Result<Matrix> {
        Ok(factor(self.covariance()?)?.l())
    }

    /// Of a without its 1.
    pub fn covariance(&self) -> Result<Matrix> {
        let gram = self.gram()?;
        let width = gram.nrows() - 1;
        let num_rows = gram[(width, width)];
        let mean = gram.view((0, width), (width, 1)) / num_rows;
        Ok(gram.view((0, 0), (width, width)) / num_rows - &mean * mean.transpose())
    }
}

fn with_ones(features: &Tensor<2>) -> Tensor<2> {
    let ones = features.clone().slice([0..features.dims()[0], 0..1]).ones_like();
    Tensor::cat(vec![features.clone(), ones], 1)
}

/// sum += aᵀ b
fn add(sum: &mut Option<Matrix>, a: &Tensor<2>, b: &Tensor<2>) -> Result<()> {
    let product = matrix(a.clone().swap_dims(0, 1).matmul(b.clone()))?;
    match sum {
        Some(sum) => *sum += product,
        None => *sum = Some(product),
    }
    Ok(())
}

fn factor(mut square: Matrix) -> Result<Cholesky<f64, Dyn>> {
    let mean = square.trace() / square.nrows() as f64;
    for at in 0..square.nrows() {
        square[(at, at)] += RIDGE * square[(at, at)] + TINY * mean + f64::MIN_POSITIVE;
    }
    Cholesky::new(square).ok_or_else(|| Error::Failed("the values of the network are not finite".to_owned()))
}

/// The eigenvectors of the largest eigenvalues of a symmetric matrix, as columns, the largest first.
pub fn largest_eigenvectors(symmetric: Matrix, count: usize) -> Matrix {
    let eigen = symmetric.symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&one, &other| eigen.eigenvalues[other].total_cmp(&eigen.eigenvalues[one]));
    eigen.eigenvectors.select_columns(&order[..count])
}

/// Of all A' B'ᵀ with `rank` columns, the one that is nearest to A Bᵀ, where rows of A are weighed by Lₐ and those of B by L_b: ‖Lₐᵀ (A Bᵀ − A' B'ᵀ) L_b‖.
pub fn low_rank([a, b]: [&Matrix; 2], [a_factor, b_factor]: [&Matrix; 2], rank: usize) -> Result<[Matrix; 2]> {
    let (a, b) = ((a_factor.transpose() * a).qr(), (b_factor.transpose() * b).qr());
    let core = (a.r() * b.r().transpose()).svd(true, true);
    let (Some(left), Some(right)) = (core.u, core.v_t) else {
        return Err(Error::Failed("a matrix without singular values".to_owned()));
    };
    // nalgebra sorts them, the largest first.
    let roots = Matrix::from_diagonal(&core.singular_values.rows(0, rank).map(f64::sqrt));
    let side = |factor: &Matrix, orthogonal: Matrix, vectors: Matrix| {
        let weighed = orthogonal * vectors * &roots;
        let back = factor.transpose().solve_upper_triangular(&weighed);
        back.ok_or_else(|| Error::Failed("the values of the network are not finite".to_owned()))
    };
    let (left, right) = (left.columns(0, rank).into_owned(), right.rows(0, rank).transpose());
    Ok([side(a_factor, a.q(), left)?, side(b_factor, b.q(), right)?])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut random = crate::random::Random::of(seed, 0);
        Matrix::from_fn(rows, columns, |_, _| random.normal())
    }

    #[test]
    fn a_regression_finds_weights_and_bias() {
        let device = Device::flex();
        let rows: Vec<f32> = random(200, 3, 1).iter().map(|&value| value as f32).collect();
        let features = Tensor::<2>::from_data(TensorData::new(rows, [200, 3]), &device);
        let weights = Tensor::<2>::from_data([[1.0f32, -2.0], [0.5, 0.0], [0.0, 3.0]], &device);
        let targets = features.clone().matmul(weights).add_scalar(4.0);
        let mut moments = Moments::default();
        moments.add(&features, &targets).unwrap();
        let expected = Matrix::from_row_slice(4, 2, &[1.0, -2.0, 0.5, 0.0, 0.0, 3.0, 4.0, 4.0]);
        let found = moments.solve().unwrap();
        assert!((&found - &expected).abs().max() < 0.02, "{found}");
    }

    /// Of no other matrices of that rank is the weighed distance less; here, of what a truncated SVD of the whole gives.
    #[test]
    fn low_rank_is_the_truncated_svd_of_the_weighed_product() {
        let (a, b) = (random(7, 4, 2), random(6, 4, 3));
        let lower = |size, seed| {
            let square = random(size, size, seed);
            Cholesky::new(&square * square.transpose() + Matrix::identity(size, size)).unwrap().l()
        };
        let (a_factor, b_factor) = (lower(7, 4), lower(6, 5));
        let [left, right] = low_rank([&a, &b], [&a_factor, &b_factor], 2).unwrap();
        let weighed = |product: Matrix| a_factor.transpose() * product * &b_factor;
        let distance = weighed(&a * b.transpose() - left * right.transpose()).norm();
        let all = weighed(&a * b.transpose()).svd(false, false).singular_values;
        let best = all.rows(2, all.len() - 2).norm();
        assert!((distance - best).abs() < 1e-9, "{distance} for {best}");
    }
}
