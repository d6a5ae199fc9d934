"""What a model says of itself, and what its objects look like."""

from __future__ import annotations

import dataclasses
from importlib.metadata import files, metadata

import pytest
import sttabt
from conftest import folder, model


def test_a_text_model() -> None:
    tiny = model("tiny-bert")
    assert (tiny.task, tiny.input, tiny.default_prune, tiny.max_tokens) == ("classification", "text", "topk:0.5", 160)
    assert tiny.labels == [f"LABEL_{index}" for index in range(5)]
    assert (tiny.num_layers, tiny.hidden_size, tiny.image_size, tiny.weights_dtype) == (4, 48, None, "f32")
    assert tiny.device == sttabt.Device(backend="cpu", adapter="CPU", software=False, note=None)
    lacks = {rule.name: rule.lacks for rule in tiny.rules}
    assert lacks["topk"] is None and lacks["concrete"] is None and "ltp_threshold" in str(lacks["ltp"])
    assert repr(tiny) == f"<Model {str(folder('tiny-bert'))!r}: classification of texts, 4 layers, on cpu>"


def test_others() -> None:
    assert model("tiny-vit").image_size == (48, 48) and model("tiny-vit").input == "image"
    assert model("bert-multilabel").task == "multi_label"
    assert model("electra-same").task == "regression" and model("electra-same").labels == ["score"]
    assert model("roberta-embed-cls").task == "embedding" and model("roberta-embed-cls").labels == []
    rules = {rule.name: rule.lacks for rule in model("bert-relu").rules}
    assert rules["dense"] is None and "p_logit" in str(rules["concrete"])


def test_auto_says_why() -> None:
    """On a machine with a hardware GPU there is nothing to say."""
    device = sttabt.Model.load(str(folder("tiny-bert"))).device
    assert device.backend == "gpu" or "no hardware GPU" in str(device.note)


def test_reprs() -> None:
    results = model("tiny-bert").classify(["w51", "w41 w3"], prune="topk:0.5")
    share = results.flops.sum() / results.dense_flops.sum()
    summary = f"prune='topk:0.5', retention={results.retention.mean():.3f}, flops={share:.1%} of dense"
    assert repr(results) == f"<Classifications: 2 inputs, 5 labels, {summary}>"
    assert repr(model("roberta-embed-cls").embed(["a"])).startswith("<Embeddings: 1 inputs, 48 numbers each, prune=")
    ranking = model("electra-same").rank("a film", ["a", "b"])
    assert repr(ranking).startswith("<Ranking: 2 of 2 passages, best ")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ranking.prune = "dense"  # type: ignore[misc]


def test_everything_public_is_described() -> None:
    for name in sttabt.__all__:
        described = getattr(sttabt, name)
        assert name == "Inputs" or described.__doc__, name
        if isinstance(described, type):
            for method, value in vars(described).items():
                assert method.startswith("_") or not callable(getattr(described, method)) or value.__doc__ or getattr(described, method).__doc__, method


def test_what_the_wheel_brings_along() -> None:
    about = metadata("sttabt")
    assert about["License-Expression"] == "Apache-2.0" and "prune" in str(about.get_payload())
    names = [str(file) for file in files("sttabt") or []]
    assert "sttabt/py.typed" in names and any(name.endswith("licenses/LICENSE") for name in names), names
    notices = next(file for file in files("sttabt") or [] if file.name == "NOTICES.txt")
    assert "\ntokenizers " in notices.read_text(), "the licences of what is compiled in"
    assert not any(name.startswith(("tests/", "src/", "examples/")) for name in names), names
