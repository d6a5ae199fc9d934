"""What the calls give: columns over the inputs, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Columns:
    prune: str
    """The rule of the run; after `auto`, the one that it chose."""
    num_tokens: NDArray[np.int64]
    """T, the tokens of each input; `[N]`"""
    retention: NDArray[np.float64]
    """The share of tokens kept, as a mean over the layers (0 to 1); `[N]`"""
    flops: NDArray[np.int64]
    """What was computed for each input, two for a multiply-add, ApproxNet included; `[N]`"""
    dense_flops: NDArray[np.int64]
    """What the model would compute without pruning; `[N]`"""
    truncated: NDArray[np.bool_]
    """Whether a text was longer than what the model reads, and was cut; `[N]`"""
    tokens: list[list[str]] | None = None
    """With `kept=True`: the wordpieces of each input, `[CLS]` first; empty for a picture."""
    kept: list[list[NDArray[np.uint32]]] | None = None
    """With `kept=True`: for each input K_0 … K_L, the sorted positions of the tokens that each layer still has."""

    def __len__(self) -> int:
        """The number of inputs."""
        return len(self.retention)

    def _summary(self) -> str:
        if len(self) == 0:
            return f"prune={self.prune!r}"
        share = self.flops.sum() / self.dense_flops.sum()
        return f"prune={self.prune!r}, retention={self.retention.mean():.3f}, flops={share:.1%} of dense"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Classifications(_Columns):
    """What `Model.classify` gives for N inputs."""

    logits: NDArray[np.float32]
    """The classifier's outputs; `[N, num_labels]`"""
    probs: NDArray[np.float32] | None
    """Softmax of the logits; sigmoid for a multi-label model, and with `sigmoid=True`. `None` for a plain number. `[N, num_labels]`"""
    label_indices: NDArray[np.int64]
    """The place of the largest logit; `[N]`"""
    labels: list[str]
    """Its name; `[N]`"""
    chosen_labels: list[list[str]] | None
    """Of a multi-label model: the labels whose probability reaches `threshold`, perhaps none; else `None`."""

    def __repr__(self) -> str:
        return f"<Classifications: {len(self)} inputs, {self.logits.shape[1]} labels, {self._summary()}>"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Embeddings(_Columns):
    """What `Model.embed` gives for N inputs."""

    embeddings: NDArray[np.float32]
    """Their vectors; `[N, H]`"""

    def __repr__(self) -> str:
        return f"<Embeddings: {len(self)} inputs, {self.embeddings.shape[1]} numbers each, {self._summary()}>"


@dataclass(frozen=True, eq=False, kw_only=True)
class RankedPassage:
    """A passage, and what the model read of it: of several windows, the best one."""

    index: int
    """Its place among the passages that were given, from 0."""
    score: float
    """The model's output, its sigmoid if the model's files say so, or the probability of the label that was asked for."""
    logit: float
    """What decides the order. Scores near 1 are equal where this is not."""
    window: tuple[int, int] | None
    """With `windows=True`: which window is the best, from 0, and how many there are."""
    num_tokens: int
    """T, of the query with the passage."""
    tokens: list[str]
    """The wordpieces of both, `[CLS]` and the query first."""
    passage: tuple[int, int]
    """The positions of the passage's tokens: the first one, and the one after the last."""
    kept_tokens: NDArray[np.uint32]
    """The positions that were read to the last layer."""
    retention: float
    """The share of tokens kept, as a mean over the layers (0 to 1)."""
    flops: int
    """What the pair costs if it is computed alone."""
    dense_flops: int
    """The same without pruning."""
    truncated: bool
    """Whether the passage was longer than what the model reads, and was cut."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Ranking:
    """What `Model.rank` gives: the best passage first. Of equals, the one that was given first."""

    prune: str
    """The rule of the run."""
    label: str | None
    """The label whose probability the scores are, of a model with several."""
    indices: NDArray[np.int64]
    """The places of the passages, best first; `[n]`"""
    scores: NDArray[np.float32]
    """Their scores; `[n]`"""
    logits: NDArray[np.float32]
    """What decides the order; `[n]`"""
    results: list[RankedPassage]
    """The same passages with all that is known of each."""
    num_passages: int
    """All that were given."""
    num_pairs: int
    """All that were computed: equal passages count once, windows each."""
    retention: float
    """The mean of the pairs that were computed."""
    flops: int
    """The sum over the pairs that were computed."""
    dense_flops: int
    """The same without pruning."""

    def __len__(self) -> int:
        """The number of passages that came back."""
        return len(self.results)

    def __repr__(self) -> str:
        best = f", best {self.indices[0]} with {self.scores[0]:.4g}" if len(self) else ""
        return f"<Ranking: {len(self)} of {self.num_passages} passages{best}, prune={self.prune!r}, retention={self.retention:.3f}>"
