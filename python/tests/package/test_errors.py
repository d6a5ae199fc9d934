"""What is refused is refused with the library's words, and never with a panic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sttabt
from conftest import folder, model, refusal

PICTURE = folder("tiny-vit") / "image0.png"
ROWS = [
    ("tiny-bert", "classify", (["w51", ""],), {}, sttabt.InputError, "input 2: the text is empty"),
    ("tiny-bert", "classify", ((str(0) if place < 5000 else "" for place in range(5001)),), {}, sttabt.InputError, "input 5001: "),
    ("tiny-bert", "classify", (["w51"],), {"prune": "topk"}, sttabt.InputError, "rule `topk`"),
    ("tiny-bert", "classify", ([],), {"prune": "nonsense"}, sttabt.InputError, "rule `nonsense`"),
    ("bert-relu", "classify", ([],), {"prune": "concrete"}, sttabt.InputError, "rule `concrete` needs"),
    ("tiny-bert", "classify", (["w51"],), {"sigmoid": True}, sttabt.InputError, "`sigmoid` needs a single output"),
    ("tiny-bert", "embed", (["w51"],), {}, sttabt.InputError, "`embed` needs an embedder"),
    ("roberta-embed-cls", "classify", (["w51"],), {}, sttabt.InputError, "`classify` needs labels or a score"),
    ("tiny-bert", "classify", ([b"\x89PNG"],), {}, sttabt.InputError, "input 1: "),
    ("tiny-vit", "classify", ([b"\x89PNG"],), {}, sttabt.InputError, "input 1: "),
    ("tiny-vit", "classify", (["no-such-file.png"],), {}, sttabt.InputError, "input 1: cannot read no-such-file.png: No such file"),
    ("tiny-vit", "classify", ([*[PICTURE] * 40, __file__],), {}, sttabt.InputError, f"input 41: {__file__}: "),
    ("tiny-vit", "classify", ([("w51", "w41")],), {}, sttabt.InputError, "input 1: a text, but the model classifies images"),
    ("tiny-bert", "classify", (["\ud800"],), {}, sttabt.InputError, "input 1: half of a surrogate pair"),
    ("tiny-bert", "classify", (pa.array(["w51", None]),), {}, sttabt.InputError, "input 2: null, expected a text"),
    ("tiny-bert", "classify", (pa.array([{"a": "w51"}, None]),), {}, sttabt.InputError, "input 2: null, expected a text"),
    ("tiny-bert", "classify", (pa.array([1], pa.int32()),), {}, TypeError, "inputs: an Arrow column of the format `i`"),
    ("tiny-bert", "classify", (pa.array(["a"]).dictionary_encode(),), {}, TypeError, 'as binaries; cast it first, in pyarrow by `column.cast("string")`'),
    ("tiny-vit", "classify", (pa.array([PICTURE.read_bytes(), None]),), {}, sttabt.InputError, "input 2: null, expected a picture"),
    ("tiny-bert", "classify", (pa.table({"a": ["a"], "b": [b"b"]}),), {}, TypeError, "input 1: two columns that are not both texts"),
    ("tiny-bert", "classify", (pa.table({"a": ["a"], "b": ["b"], "c": ["c"]}),), {}, TypeError, "an Arrow table of 3 columns"),
    ("electra-same", "rank", ("a film", []), {}, sttabt.InputError, "no passages to rank"),
    ("electra-same", "rank", ("", ["a film"]), {}, sttabt.InputError, "the query: "),
    ("electra-same", "rank", ("a film", ["a film"]), {"prune": "auto"}, sttabt.InputError, "`rank` takes a rule"),
    ("electra-same", "rank", ("a film", ["a", ("b", "c")]), {}, TypeError, "passage 2: tuple, expected a str"),
    ("electra-same", "rank", ("a film", ["a", None]), {}, TypeError, "passage 2: NoneType, expected a str"),
    ("electra-same", "rank", ("a film", ["\ud800"]), {}, sttabt.InputError, "passage 1: half of a surrogate pair"),
    ("electra-same", "rank", ("a film", pa.array(["a", None])), {}, sttabt.InputError, "passage 2: null, expected a text"),
    ("electra-same", "rank", ("a film", pa.array([b"a"])), {}, TypeError, "passage 1: a binary, expected a str"),
    ("electra-same", "rank", ("a film", pa.array([1])), {}, TypeError, "passages: an Arrow column of the format `l`, expected strings"),
    ("electra-same", "rank", ("a film", pa.table({"a": ["a"], "b": ["b"]})), {}, TypeError, "an Arrow table of 2 columns, expected one"),
    ("electra-same", "rank", ("a film", "a film"), {}, TypeError, "passages: one str, expected a list, as in [passage]"),
    ("electra", "rank", ("a film", ["a film"]), {"label": "none such"}, sttabt.InputError, "label `none such`"),
    ("tiny-vit", "rank", ("a film", ["a film"]), {}, sttabt.InputError, "`rank` needs"),
]


@pytest.mark.parametrize(("name", "method", "args", "options", "kind", "message"), ROWS, ids=[str(row[5]) for row in ROWS])
def test_refused(name: str, method: str, args: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as raised:
        getattr(model(name), method)(*args, **options)
    assert message in str(raised.value)
    # The model goes on.
    assert model("tiny-bert").classify(["w51"]).labels == ["LABEL_0"]


def test_the_commands_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(sttabt.ModelError) as raised:
        sttabt.Model.load(tmp_path)
    assert str(raised.value) == refusal("classify", "--model", tmp_path, "w51")
    with pytest.raises(sttabt.ModelError, match="cannot read .*config.json"):
        sttabt.Model.load(tmp_path / "none")
    for texts, prune in ((["w51"], "ltp"), (["w51"], "topk:0.5,0.5"), (["w51", " "], "dense")):
        with pytest.raises(sttabt.InputError) as refused:
            model("tiny-bert").classify(texts, prune=prune)
        assert str(refused.value) == refusal("classify", "--model", folder("tiny-bert"), "--prune", prune, *texts)


def test_devices() -> None:
    assert issubclass(sttabt.DeviceError, RuntimeError) and issubclass(sttabt.InputError, ValueError)
    with pytest.raises(sttabt.InputError, match="backend `tpu`: expected auto, gpu or cpu"):
        sttabt.Model.load(folder("tiny-bert"), backend="tpu")  # type: ignore[arg-type]
    with pytest.raises(sttabt.DeviceError, match="no GPU with `no such one`"):
        sttabt.Model.load(folder("tiny-bert"), backend="gpu", adapter="no such one")


def test_a_gpu() -> None:
    """`./test` has installed a Vulkan driver."""
    gpu = sttabt.Model.load(folder("tiny-bert"), backend="gpu")
    assert gpu.device.backend == "gpu" and gpu.device.adapter
    texts = ["w51 w41 w11 w19 w70", "w88"]
    results, wanted = gpu.classify(texts, kept=True), model("tiny-bert").classify(texts, kept=True)
    assert abs(results.logits - wanted.logits).max() < 1e-4 and results.labels == wanted.labels
    assert results.flops.tolist() == wanted.flops.tolist()
    with pytest.raises(sttabt.InputError, match="input 1: the text is empty"):
        gpu.classify([""])


def widen(folder_in: Path, folder_out: Path, num_positions: int) -> None:
    """The same model with more positions: the last one's numbers over and over."""
    folder_out.mkdir()
    for file in folder_in.iterdir():
        if file.suffix == ".json" and "cases" not in file.name:
            config = json.loads(file.read_text(encoding="utf-8"))
            for key in ("max_position_embeddings", "model_max_length"):
                if key in config:
                    config[key] = num_positions
            (folder_out / file.name).write_text(json.dumps(config), encoding="utf-8")
    weights = (folder_in / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(weights[:8], "little")
    header, data = json.loads(weights[8:start]), b""
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        numbers = weights[start + begin : start + end]
        if name.endswith("position_embeddings.weight"):
            row = len(numbers) // tensor["shape"][0]
            numbers += numbers[-row:] * (num_positions - tensor["shape"][0])
            tensor["shape"][0] = num_positions
        tensor["data_offsets"] = [len(data), len(data) + len(numbers)]
        data += numbers
    text = json.dumps(header).encode()
    (folder_out / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.one_thread
def test_a_long_input_is_counted_from_the_first(tmp_path: Path) -> None:
    widen(folder("tiny-bert"), tmp_path / "wide", 16500)
    widen(folder("tiny-bert") / "approx", tmp_path / "wide" / "approx", 16500)
    wide = sttabt.Model.load(tmp_path / "wide", backend="cpu")
    texts = ["w51 w41"] * 6000 + ["w5 " * 16400]
    calls: list[tuple[int, int | None]] = []
    with pytest.raises(sttabt.InputError, match="needs inputs of at most 16384 tokens, input 6001 has 16402; "):
        wide.classify(texts, prune="topk:0.5", progress=lambda *call: calls.append(call))
    # It is in the ninth group.
    assert len(calls) == 9 and calls[-1] == (8 * 683, 6001)
