//! Whose attention is looked at, and what its maps hold.

/// What an attention map holds for a row i and a column j, averaged over heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Ā\[i, j\]: attention probabilities (Rule 1).
    MeanProbs,
    /// U\[i, j\]: Φ of the row-standardised attention scores (Rule 2).
    MeanPhi,
}

/// Whose maps back-tracking walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapsOf {
    ApproxNet,
    /// The model itself, from a dense pass.
    Model,
}
