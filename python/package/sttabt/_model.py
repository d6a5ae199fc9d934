"""A model on a device."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _native
from ._results import Classifications, Embeddings, RankedPassage, Ranking


class ArrowArray(Protocol):
    """An array, or a batch of columns, of any Arrow package."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...


class ArrowStream(Protocol):
    """A chunked array, a table, or a stream of any Arrow package."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Inputs: TypeAlias = Iterable[Any] | ArrowArray | ArrowStream
"""What a call takes: see `Model.classify`."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A pruning rule beside a model."""

    name: str
    """What it is called, as in `topk:0.5`."""
    argument: Literal["none", "ratios", "thresholds"]
    """What follows the name, after a colon."""
    about: str
    """What it does."""
    lacks: str | None
    """What the model lacks for it; `None` if the rule can be used."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a model runs on."""

    backend: Literal["cpu", "gpu"]
    """Its kind."""
    adapter: str
    """The adapter's name, or `CPU`."""
    software: bool
    """Whether the adapter is software."""
    note: str | None
    """Why `auto` took no GPU."""


class Model:
    """A model on a device. `Model.load` makes one.

    Several threads may call one model: each call waits for its turn, and the lock of the interpreter is free meanwhile. Ctrl-C ends a
    call between two layers.
    """

    task: Literal["classification", "multi_label", "regression", "embedding"]
    """What it gives: one label, any of several, a number, or a vector."""
    input: Literal["text", "image"]
    """What it reads."""
    labels: list[str]
    """The names of its outputs, by index; none for an embedder."""
    default_prune: str
    """The rule of a call that names none."""
    rules: list[Rule]
    """All rules, with what this model lacks for them."""
    max_tokens: int
    """The most tokens that it reads of an input. Longer texts are cut."""
    num_layers: int
    """L"""
    hidden_size: int
    """h"""
    image_size: tuple[int, int] | None
    """Height and width of the pictures as it sees them; `None` for texts."""
    num_parameters: int
    """Weights, without ApproxNet."""
    weights_dtype: str
    """The number format of the weights: `f32`, `f16`, `bf16` or `int8`."""
    device: Device
    """What it runs on."""

    def __init__(self, native: _native.Model, folder: str) -> None:
        """Use `Model.load`."""
        info = json.loads(native.info())
        self._native = native
        self._folder = folder
        self.task = info["task"]
        self.input = info["input"]
        self.labels = info["labels"]
        self.default_prune = info["default_prune"]
        self.rules = [
            Rule(name=rule["name"], argument=rule["argument"], about=rule["about"], lacks=rule.get("lacks"))
            for rule in info["rules"]
        ]
        self.max_tokens = info["max_tokens"]
        self.num_layers = info["num_layers"]
        self.hidden_size = info["hidden_size"]
        self.image_size = tuple(info["image_size"]) if info["image_size"] else None
        self.num_parameters = info["num_parameters"]
        self.weights_dtype = info["weights_dtype"]
        self.device = Device(**{"note": None, **json.loads(native.device)})

    @classmethod
    def load(
        cls,
        folder: str | PathLike[str],
        backend: Literal["auto", "cpu", "gpu"] = "auto",
        *,
        adapter: str | None = None,
    ) -> Model:
        """Reads a model folder as it is downloaded from Hugging Face, and puts the model on a device.

        Args:
            folder: where `config.json`, the weights and the tokenizer lie, and perhaps an ApproxNet in `approx/`.
            backend: `auto` takes a hardware GPU if there is one, else the CPU, and `device.note` says why. `gpu` takes a software
                adapter too.
            adapter: take the first GPU adapter whose name contains this.

        Raises:
            ModelError: a file is missing, broken, or of a model that is not supported.
            DeviceError: there is no such device, or not enough memory.
        """
        if backend != "cpu":
            # Mesa's layer that sorts devices prints errors where there is no display. The order is chosen here anyway.
            os.environ.setdefault("NODEVICE_SELECT", "1")
        return cls(_native.Model.load(folder, backend, adapter), os.fspath(folder))

    def classify(
        self,
        inputs: Inputs,
        *,
        prune: str | None = None,
        sigmoid: bool = False,
        threshold: float | None = None,
        kept: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> Classifications:
        """Classifies inputs. Each result is the same to the last bit as what the input gives alone.

        Args:
            inputs: a list, an array, an iterator or an Arrow column of inputs. For a model of texts these are str, or pairs of str. For
                one of pictures they are paths, bytes of a file (PNG, JPEG, WebP, GIF, BMP), PIL images, or arrays of uint8
                `[height, width, 3]`. A table of Arrow with two columns is read as pairs. An iterator is read as its inputs are
                needed.
            prune: a rule, such as `topk:0.5`, `auto` or `dense`. Without one, `default_prune`. `auto` chooses once, by the first group
                of inputs, for the whole call.
            sigmoid: for a model with one output: `probs` is its sigmoid.
            threshold: for a multi-label model: what a label's probability must reach to be chosen, else 0.5.
            kept: give each input's tokens, and which of them every layer kept.
            progress: called with the number of inputs that are done, and of all if that is known. What it raises ends the call.

        Raises:
            InputError: an input cannot be read (an empty text, a broken or missing picture, a null of Arrow), or the model cannot
                follow the rule.
            TypeError: an input, or an Arrow column, is of another type.
        """
        columns = self._native.classify(inputs, False, prune, sigmoid, threshold, kept, progress)
        width = columns.pop("width")
        probs = columns.pop("probs")
        return Classifications(
            logits=_array(columns.pop("logits"), np.float32, width),
            probs=None if probs is None else _array(probs, np.float32, width),
            label_indices=_array(columns.pop("label_indices"), np.int64),
            labels=columns.pop("labels"),
            chosen_labels=columns.pop("chosen_labels"),
            **_common(columns),
        )

    def embed(
        self,
        inputs: Inputs,
        *,
        prune: str | None = None,
        kept: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> Embeddings:
        """Turns inputs into vectors, with a model that has no classifier. For the arguments see `classify`."""
        columns = self._native.classify(inputs, True, prune, False, None, kept, progress)
        width = columns.pop("width")
        return Embeddings(embeddings=_array(columns.pop("embeddings"), np.float32, width), **_common(columns))

    def rank(
        self,
        query: str,
        passages: Inputs,
        *,
        prune: str | None = None,
        top_n: int | None = None,
        windows: bool = False,
        label: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Ranking:
        """Ranks passages by the score that a cross-encoder gives each of them together with the query.

        Args:
            query: it is never cut.
            passages: a list, an array, an iterator or an Arrow column of str.
            prune: a rule, such as `topk:0.5`. Without one, `default_prune`.
            top_n: give the best so many only.
            windows: read a passage that is too long in windows, instead of cutting it. The best window counts.
            label: the label whose probability is the score, of a model with several.
            progress: called with the number of pairs that are done, and of all. What it raises ends the call.

        Raises:
            InputError: the query is empty or too long, there are no passages, or the model gives no score.
            TypeError: a passage is not a str.
        """
        ranking = self._native.rank(query, passages, prune, top_n, windows, label, progress)
        for name, dtype in (("indices", np.int64), ("scores", np.float32), ("logits", np.float32)):
            ranking[name] = _array(ranking[name], dtype)
        for result in ranking["results"]:
            result["kept_tokens"] = _array(result["kept_tokens"], np.uint32)
        results = [RankedPassage(**result) for result in ranking.pop("results")]
        return Ranking(results=results, **ranking)

    def __repr__(self) -> str:
        return f"<Model {self._folder!r}: {self.task} of {self.input}s, {self.num_layers} layers, on {self.device.backend}>"


_DTYPES: dict[str, DTypeLike] = {
    "num_tokens": np.int64,
    "retention": np.float64,
    "flops": np.int64,
    "dense_flops": np.int64,
    "truncated": np.bool_,
}


def _array(numbers: bytearray, dtype: DTypeLike, *row: int) -> NDArray[Any]:
    """An array over the memory of `numbers`, with rows of this shape."""
    num_rows = len(numbers) // (np.dtype(dtype).itemsize * math.prod(row))
    return np.ndarray((num_rows, *row), dtype, numbers)


def _common(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns that all results have."""
    common: dict[str, Any] = {name: _array(columns[name], dtype) for name, dtype in _DTYPES.items()}
    common["prune"] = columns["prune"]
    if "kept" in columns:
        positions, counts = columns["kept"]
        ends = np.cumsum(_array(counts, np.int64)).tolist()
        layers = np.split(_array(positions, np.uint32), ends[:-1]) if ends else []
        num_inputs = len(columns["tokens"])
        num_layers = len(layers) // max(num_inputs, 1)
        common["kept"] = [layers[num_layers * place : num_layers * (place + 1)] for place in range(num_inputs)]
        common["tokens"] = columns["tokens"]
    return common
