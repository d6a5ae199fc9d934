"""Every number is the command's, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, command, folder, model

TEXTS = ["w51 w41 w11 w19 w70", "w88", " ".join(f"w{3 + place % 90}" for place in range(200))]
ENGLISH = ["a gripping film", "how long does a flea live?", "the story is dull and I was bored after ten minutes", "Größe, señor"]
RULES = [None, "dense", "topk:0.5", "topk:0.9,0.6,0.5,0.3", "concrete", "oracle:0.3", "forward:0.5", "ltp:0.02"]


def f32(values: Any) -> np.ndarray[Any, Any]:
    """The command writes the shortest decimals that are read as these numbers again."""
    return np.array(values, np.float32)


def same_columns(results: Any, rows: list[dict[str, Any]]) -> None:
    assert len(results) == len(rows)
    assert results.retention.dtype == np.float64 and results.retention.tolist() == [row["retention"] for row in rows]
    assert results.flops.tolist() == [row["flops"]["total"] for row in rows]
    assert results.dense_flops.tolist() == [row["flops"]["dense"] for row in rows]
    assert results.num_tokens.tolist() == [row["num_tokens"] for row in rows]
    assert results.truncated.tolist() == [row["truncated"] for row in rows]
    assert {results.prune} == {row["prune"] for row in rows}
    assert results.tokens == [row.get("tokens", []) for row in rows]
    assert [[layer.tolist() for layer in layers] for layers in results.kept] == [row["kept"] for row in rows]
    assert all(layer.dtype == np.uint32 for layers in results.kept for layer in layers)


def same_classes(results: Any, rows: list[dict[str, Any]]) -> None:
    same_columns(results, rows)
    assert results.logits.dtype == np.float32 and np.array_equal(results.logits, f32([row["logits"] for row in rows]))
    if results.probs is None:
        assert all(row["probs"] == [] for row in rows)
    else:
        assert results.probs.dtype == np.float32 and np.array_equal(results.probs, f32([row["probs"] for row in rows]))
    assert results.labels == [row["label"] for row in rows]
    assert results.label_indices.tolist() == [row["label_index"] for row in rows]
    if results.chosen_labels is None:
        assert all("labels" not in row for row in rows)
    else:
        assert results.chosen_labels == [row["labels"] for row in rows]


@pytest.mark.parametrize("prune", RULES)
def test_classify(prune: str | None) -> None:
    args = ["--prune", prune] if prune else []
    rows = command("classify", "--model", folder("tiny-bert"), *args, *TEXTS)["results"]
    results = model("tiny-bert").classify(TEXTS, prune=prune, kept=True)
    same_classes(results, rows)
    assert results.truncated.tolist() == [False, False, True]


def test_classify_pairs() -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[0])]
    texts = [text for pair in pairs for text in pair]
    rows = command("classify", "--model", folder("tiny-bert"), "--pair", *texts)["results"]
    same_classes(model("tiny-bert").classify(pairs, kept=True), rows)


@pytest.mark.parametrize("threshold", [None, 0.45])
def test_several_labels(threshold: float | None) -> None:
    args = ["--threshold", str(threshold)] if threshold else []
    rows = command("classify", "--model", folder("bert-multilabel"), *args, *ENGLISH)["results"]
    same_classes(model("bert-multilabel").classify(ENGLISH, threshold=threshold, kept=True), rows)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_score(sigmoid: bool) -> None:
    args = ["--sigmoid"] if sigmoid else []
    rows = command("classify", "--model", folder("electra-same"), *args, *ENGLISH)["results"]
    results = model("electra-same").classify(ENGLISH, sigmoid=sigmoid, kept=True)
    same_classes(results, rows)
    assert (results.probs is None) != sigmoid


@pytest.mark.parametrize("prune", [None, "dense", "topk:0.3"])
def test_embed(prune: str | None) -> None:
    args = ["--prune", prune] if prune else []
    rows = command("embed", "--model", folder("roberta-embed-cls"), *args, *ENGLISH)["results"]
    results = model("roberta-embed-cls").embed(ENGLISH, prune=prune, kept=True)
    same_columns(results, rows)
    assert results.embeddings.dtype == np.float32 and results.embeddings.shape == (4, 48)
    assert np.array_equal(results.embeddings, f32([row["embedding"] for row in rows]))


@pytest.mark.parametrize("name", ["tiny-vit", "deit-distilled"])
def test_pictures(name: str) -> None:
    files = sorted(folder(name).glob("*.png"))
    if name == "tiny-vit":
        # It resizes what it is given.
        files += [FIXTURES / "pictures" / "rgb.jpg", FIXTURES / "pictures" / "plain.gif"]
    args = [arg for file in files for arg in ("--image", str(file))]
    rows = command("classify", "--model", folder(name), *args)["results"]
    same_classes(model(name).classify(files, kept=True), rows)
    same_classes(model(name).classify(map(str, files), kept=True), rows)
    same_classes(model(name).classify([file.read_bytes() for file in files], kept=True), rows)


def test_embed_pictures() -> None:
    files = sorted(folder("dinov2-embed").glob("*.png"))
    args = [arg for file in files for arg in ("--image", str(file))]
    rows = command("embed", "--model", folder("dinov2-embed"), *args)["results"]
    results = model("dinov2-embed").embed(files, kept=True)
    same_columns(results, rows)
    assert np.array_equal(results.embeddings, f32([row["embedding"] for row in rows]))


@pytest.mark.parametrize(
    ("name", "options", "args"),
    [
        ("electra-same", {}, []),
        ("electra-same", {"prune": "topk:0.3", "top_n": 3}, ["--prune", "topk:0.3", "--top", "3"]),
        ("electra-same", {"windows": True, "prune": "dense"}, ["--windows", "--prune", "dense"]),
        ("electra", {"label": "good"}, ["--label", "good"]),
    ],
)
def test_rank(name: str, options: dict[str, Any], args: list[str], tmp_path: Path) -> None:
    passages = [*ENGLISH, "a film " * 150, "a gripping film", "two films", "boring"]
    file = tmp_path / "passages.txt"
    file.write_text("\n".join(passages), encoding="utf-8")
    wanted = command("rank", "--model", folder(name), "--query", "a film", *args, file)
    ranking = model(name).rank("a film", passages, **options)
    for key in ("prune", "num_passages", "num_pairs", "retention"):
        assert getattr(ranking, key) == wanted[key], key
    assert ranking.label == wanted.get("label")
    assert (ranking.flops, ranking.dense_flops) == (wanted["flops"]["total"], wanted["flops"]["dense"])
    assert len(ranking) == len(wanted["results"]) == options.get("top_n", len(passages))
    assert ranking.indices.tolist() == [row["index"] for row in wanted["results"]]
    assert np.array_equal(ranking.scores, f32([row["score"] for row in wanted["results"]]))
    assert np.array_equal(ranking.logits, f32([row["logit"] for row in wanted["results"]]))
    for result, row in zip(ranking.results, wanted["results"], strict=True):
        assert np.float32(result.score) == np.float32(row["score"])
        assert result.kept_tokens.tolist() == row["kept_tokens"]
        assert (result.tokens, list(result.passage)) == (row["tokens"], row["passage"])
        window = row.get("window")
        assert result.window == ((window["index"], window["num_windows"]) if window else None)
        for key in ("index", "num_tokens", "retention", "truncated"):
            assert getattr(result, key) == row[key], key
        assert (result.flops, result.dense_flops) == (row["flops"]["total"], row["flops"]["dense"])


@pytest.mark.one_thread
def test_a_real_model_and_groups() -> None:
    """More tokens than one group has: groups change no bit."""
    texts = [f"{text} {place}" for place in range(40) for text in ENGLISH] * 2
    calls: list[tuple[int, int | None]] = []
    results = model("sst2-minilm").classify(texts, prune="topk:0.3", progress=lambda *call: calls.append(call))
    assert len(calls) == 3 and 160 < calls[1][0] < 320
    alone = [model("sst2-minilm").classify([text], prune="topk:0.3") for text in texts[:8]]
    assert np.array_equal(results.logits[:8], np.concatenate([one.logits for one in alone]))
    assert np.array_equal(results.logits[:160], results.logits[160:])
    rows = command("classify", "--model", folder("sst2-minilm"), "--prune", "topk:0.3", *texts[:8])["results"]
    assert np.array_equal(results.logits[:8], f32([row["logits"] for row in rows]))


@pytest.mark.one_thread
def test_several_groups(words: list[str]) -> None:
    texts = words * 10
    calls: list[tuple[int, int | None]] = []
    results = model("tiny-bert").classify(texts, progress=lambda *call: calls.append(call))
    assert 40 < len(calls) < 60 and calls[0] == (0, len(texts)) and calls[-1] == (len(texts), len(texts))
    file = "\n".join(texts)
    rows = command("classify", "--model", folder("tiny-bert"), "-", stdin=file)["results"]
    assert np.array_equal(results.logits, f32([row["logits"] for row in rows]))


def test_auto_is_one_of_two() -> None:
    results = model("tiny-bert").classify(TEXTS, prune="auto:topk:0.5")
    assert results.prune in ("dense", "topk:0.5")
    assert np.array_equal(results.logits, model("tiny-bert").classify(TEXTS, prune=results.prune).logits)
    embedded = model("roberta-embed-cls").embed(ENGLISH, prune="auto")
    assert np.array_equal(embedded.embeddings, model("roberta-embed-cls").embed(ENGLISH, prune=embedded.prune).embeddings)
