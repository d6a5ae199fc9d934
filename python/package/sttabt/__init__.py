"""Transformer inference that computes only the tokens that matter.

    >>> import sttabt
    >>> model = sttabt.Model.load("models/sst2-minilm")
    >>> results = model.classify(["a gripping film", "a tedious mess"], prune="topk:0.5")
    >>> results.labels
    ['positive', 'negative']
"""

from ._errors import DeviceError, InputError, ModelError, SttabtError
from ._model import Device, Inputs, Model, Rule
from ._results import Classifications, Embeddings, RankedPassage, Ranking

__all__ = [
    "Classifications",
    "Device",
    "DeviceError",
    "Embeddings",
    "InputError",
    "Inputs",
    "Model",
    "ModelError",
    "RankedPassage",
    "Ranking",
    "Rule",
    "SttabtError",
]
