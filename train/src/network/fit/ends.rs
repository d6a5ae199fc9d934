//! What stands before the layers and after them.

use burn::tensor::Tensor;
use sttabt::training::PoolerKind;

use super::{Source, Spread, State, after, largest, regression};
use crate::algebra::Moments;
use crate::error::Result;
use crate::network::Network;
use crate::parameters::{Id, Parameters};

impl Network {
    pub(super) fn fit_embedding(
        &self,
        source: &Source<'_>,
        basis: &Tensor<2>,
        parameters: &mut Parameters,
    ) -> Result<()> {
        let (large, leaves) = (source.network, source.leaves);
        let width = basis.dims()[0];
        // Of pictures, the first states are a sum that is linear in all of this.
        if let (Some(small), Some(projection)) = (self.projection, large.projection) {
            let weight = leaves.matrix(projection.weight).matmul(basis.clone());
            parameters.set(small.weight, weight);
            let in_basis = |id: Id| leaves.vector(id).reshape([-1, width as i32]).matmul(basis.clone());
            parameters.set(small.bias, in_basis(projection.bias));
            parameters.set(self.positions, in_basis(large.positions));
            self.anchors.iter().zip(&large.anchors).for_each(|(&small, &large)| parameters.set(small, in_basis(large)));
            return Ok(());
        }
        let tables = |network: &Network| [network.words, Some(network.positions), network.token_types];
        // A projection leads from a basis of the tables' own to that of the states.
        let of_tables = match self.embedding_projection {
            Some(_) => {
                let mut moments = Moments::default();
                for batch in source.batches {
                    let rows = large.embed_tables(leaves, batch, true);
                    moments.add_features(&rows)?;
                }
                let size = parameters.list[self.positions].matrix_shape()[1];
                self.principal(&[moments], size)?
            }
            None => basis.clone(),
        };
        let norm = self.embedding_norm.zip(large.embedding_norm);
        for (small, table) in tables(self).into_iter().zip(tables(large)) {
            let (Some(small), Some(table)) = (small, table) else { continue };
            let mut rows = leaves.matrix(table);
            if let Some((_, norm)) = norm {
                rows = (rows.clone() - rows.mean_dim(1)) * leaves.vector(norm.weight).unsqueeze::<2>();
            }
            parameters.set(small, rows.matmul(of_tables.clone()));
        }
        if let Some((small, _)) = norm {
            self.fit_norm(small, parameters, source.batches.iter(), |leaves, batch| {
                let target = large.embed_tables(source.leaves, batch, true).matmul(of_tables.clone());
                (self.embed_tables(leaves, batch, true), target)
            })?;
        }
        if let Some(projection) = self.embedding_projection {
            let constants = parameters.constants();
            let rows = source.batches.iter().map(|batch| {
                let target = large.embed(leaves, batch, true).matmul(basis.clone());
                Ok((self.embed_tables(&constants, batch, true), target))
            });
            let found = regression(rows)?;
            parameters.set_affine(projection.weight, projection.bias, &found);
        }
        Ok(())
    }

    pub(super) fn fit_head(
        &self,
        source: &Source<'_>,
        states: &[State<'_>],
        parameters: &mut Parameters,
    ) -> Result<()> {
        let (large, leaves) = (source.network, source.leaves);
        if let (Some(small), Some(pooler)) = (self.pooler, large.pooler) {
            match self.pooler_kind {
                PoolerKind::Dense(_) => {
                    let found = regression(states.iter().map(|state| Ok((state.small.clone(), state.large.clone()))))?;
                    let mut spread = Spread::default();
                    for state in states {
                        let first = state.batch.rows.token(0, &self.place);
                        spread.add(&large.pool(leaves, state.large.clone().select(0, first)));
                    }
                    let units = largest(&spread.variances()?, self.config.hidden_size);
                    let values = after(&found, leaves, pooler)?.select_columns(&units);
                    parameters.set_affine(small.weight, small.bias, &values);
                }
                _ => parameters.set_plain(small),
            }
        }
        for (anchor, (small, classifier)) in self.classifiers.iter().zip(&large.classifiers).enumerate() {
            let constants = parameters.constants();
            let found = regression(states.iter().map(|state| {
                let token = state.batch.rows.token(anchor, &self.place);
                let pooled = self.pool(&constants, state.small.clone().select(0, token.clone()));
                let large_pooled = large.pool(leaves, state.large.clone().select(0, token));
                Ok((pooled, large.linear(leaves, *classifier, large_pooled)))
            }))?;
            parameters.set_affine(small.weight, small.bias, &found);
        }
        Ok(())
    }
}
