"""Everything that holds texts, pairs or pictures is read, and what is something else is named."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sttabt
from conftest import FIXTURES, folder, model

TEXTS = ["w51 w41 w11 w19 w70", "w88", "w3 w4"]
PAIRS = [("w51 w41", "w11"), ("w88", "w9 w10"), ("w3 w4", "w5")]


def texts() -> Iterator[str]:
    yield from TEXTS


class Sequence:
    """No more than what old iteration asks for."""

    def __getitem__(self, place: int) -> str:
        return TEXTS[place]


@pytest.mark.parametrize(
    "inputs",
    [
        tuple(TEXTS),
        texts(),
        iter(TEXTS),
        Sequence(),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array(TEXTS, np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else TEXTS,
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(["left out", *TEXTS, None])[1:4],
        pa.array([*"abcdefgh", *TEXTS], pa.string_view())[8:],
        pa.chunked_array([TEXTS[:1], [], TEXTS[1:]]),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]], pa.large_string()),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]], pa.string_view()),
        pa.table({"text": TEXTS}),
        pa.record_batch({"text": ["left out", *TEXTS]})[1:],
        pa.RecordBatchReader.from_batches(pa.schema({"text": pa.string()}), pa.table({"text": TEXTS}).to_batches(2)),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_texts(inputs: Any) -> None:
    wanted = model("tiny-bert").classify(TEXTS)
    assert np.array_equal(model("tiny-bert").classify(inputs).logits, wanted.logits)


@pytest.mark.parametrize(
    "inputs",
    [
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        pa.table({"one": [one for one, _ in PAIRS], "two": [two for _, two in PAIRS]}),
        pa.table({"one": ["", *(one for one, _ in PAIRS)], "two": ["", *(two for _, two in PAIRS)]})[1:],
        pa.array([{"one": "", "two": None}, *({"one": one, "two": two} for one, two in PAIRS)])[1:],
        iter(PAIRS),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_pairs(inputs: Any) -> None:
    wanted = model("tiny-bert").classify(PAIRS)
    assert np.array_equal(model("tiny-bert").classify(inputs).logits, wanted.logits)
    assert not np.array_equal(wanted.logits, model("tiny-bert").classify([one for one, _ in PAIRS]).logits)


def test_passages() -> None:
    wanted = model("electra-same").rank("a film", ["a film", "two", "three films"]).indices
    for passages in [np.array(["a film", "two", "three films"]), pa.chunked_array([["a film", "two"], ["three films"]])]:
        assert np.array_equal(model("electra-same").rank("a film", passages).indices, wanted)


def test_pictures() -> None:
    files = sorted(folder("tiny-vit").glob("*.png"))
    wanted = model("tiny-vit").classify(files).logits
    images = [PIL.Image.open(file) for file in files]
    arrays = [np.asarray(image.convert("RGB")) for image in images]
    assert np.array_equal(model("tiny-vit").classify(images).logits, wanted)
    assert np.array_equal(model("tiny-vit").classify(arrays).logits, wanted)
    assert np.array_equal(model("tiny-vit").classify(np.stack(arrays)).logits, wanted)
    # Neither order nor strides are those of a plain array.
    strided = [np.asfortranarray(array[::-1])[::-1] for array in arrays]
    assert np.array_equal(model("tiny-vit").classify(strided).logits, wanted)
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        binaries = pa.array([file.read_bytes() for file in files], kind)
        assert np.array_equal(model("tiny-vit").classify(binaries).logits, wanted)
    assert np.array_equal(model("tiny-vit").classify(pa.array(map(str, files))).logits, wanted)
    assert np.array_equal(model("tiny-vit").classify([bytearray(file.read_bytes()) for file in files]).logits, wanted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pil_modes(mode: str) -> None:
    """The library reads the same picture from PIL and from the file that PIL writes."""
    image = PIL.Image.open(FIXTURES / "tiny-vit" / "image0.png").convert(mode)
    if mode.endswith("A"):
        image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    file = io.BytesIO()
    image.save(file, "PNG")
    assert np.array_equal(model("tiny-vit").classify([image]).logits, model("tiny-vit").classify([file.getvalue()]).logits)


def test_many_pictures() -> None:
    """More than are decoded at once, from an iterator whose length nobody knows."""
    array = np.asarray(PIL.Image.open(FIXTURES / "tiny-vit" / "image0.png").convert("RGB"))
    calls: list[tuple[int, int | None]] = []
    results = model("tiny-vit").classify((array for _ in range(70)), progress=lambda *call: calls.append(call))
    assert calls == [(0, None), (32, None), (64, None), (70, None)]
    assert len(results) == 70 and (results.logits == results.logits[0]).all()


@pytest.mark.parametrize("prune", [None, "auto:topk:0.5"])
def test_an_iterator_is_read_as_needed(prune: str | None) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while read < 1_000_000:
            read += 1
            yield "w51 w41 w11 w19 w70"

    class Enough(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        if done:
            raise Enough

    with pytest.raises(Enough):
        model("tiny-bert").classify(endless(), prune=prune, progress=stop)
    assert 100 < read < 1_000_000


def test_long_strings_and_empty_ones() -> None:
    """Views hold twelve bytes themselves, and longer texts elsewhere."""
    texts = ["w5 " * length for length in range(1, 60)]
    wanted = model("tiny-bert").classify(texts).logits
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert np.array_equal(model("tiny-bert").classify(pa.array(texts, kind)).logits, wanted)
        # An empty passage is a passage.
        passages = pa.array(["", "a film", ""], kind)
        assert model("electra-same").rank("a film", passages).num_pairs == 2


def test_arrays_are_given_back() -> None:
    """What Arrow lends is released once the call has ended."""
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    for place in range(20):
        texts = pa.array([f"w{place % 90 + 3} w4"] * 1000)
        model("tiny-bert").classify(pa.chunked_array([texts, texts]))
        with pytest.raises(ValueError, match="input 1: the text is empty"):
            model("tiny-bert").classify(pa.chunked_array([pa.array([" "]), texts]))
    del texts
    assert pool.bytes_allocated() <= before + 1000


class Cached:
    """Hands out the same capsules every time."""

    def __init__(self, schema: object, array: object) -> None:
        self.capsules = schema, array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self.capsules


class CachedStream:
    def __init__(self, capsule: object) -> None:
        self.capsule = capsule

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.capsule


def test_what_was_read_is_refused() -> None:
    """Whoever takes an array or a stream out of its capsule leaves a released one, whose other fields mean nothing."""
    tiny = model("tiny-bert")
    array = pa.array(TEXTS)
    cached = Cached(*array.__arrow_c_array__())
    assert len(tiny.classify(cached)) == 3
    with pytest.raises(sttabt.InputError, match="inputs: the Arrow array was released, expected one that nobody has read"):
        tiny.classify(cached)
    read = Cached(*array.__arrow_c_array__())
    pa.array(read)
    with pytest.raises(sttabt.InputError, match="inputs: the Arrow schema was released"):
        tiny.classify(read)
    for reads in (pa.RecordBatchReader.from_stream, tiny.classify):
        stream = CachedStream(pa.table({"text": TEXTS}).__arrow_c_stream__())
        reads(stream)
        with pytest.raises(sttabt.InputError, match="inputs: the Arrow stream was released"):
            tiny.classify(stream)
    with pytest.raises(sttabt.InputError, match="passages: the Arrow stream was released"):
        model("electra-same").rank("a film", stream)


# Threads of pyarrow's read the file by calling its methods, slowly enough that the reading goes on during the call.
FROM_A_FILE_OF_PYTHON = """
import io, sys, time, pyarrow.dataset as ds, sttabt
class Slow(io.FileIO):
    def read(self, *args):
        time.sleep(0.1)
        return super().read(*args)
model = sttabt.Model.load(sys.argv[1], backend="cpu")
fragment = ds.ParquetFileFormat().make_fragment(Slow(sys.argv[2]))
print(len(model.classify(ds.Scanner.from_fragment(fragment, batch_size=10).to_reader())))
"""


def test_a_stream_whose_threads_need_the_lock(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS * 100}), tmp_path / "texts.parquet", row_group_size=50)
    args = [sys.executable, "-c", FROM_A_FILE_OF_PYTHON, folder("tiny-bert"), tmp_path / "texts.parquet"]
    run = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60)
    assert run.stdout == "300\n", run.stderr


def test_a_stream_that_breaks() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"text": TEXTS})
        raise OSError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"text": pa.string()}), batches())
    with pytest.raises(ValueError, match="the Arrow stream cannot be read: .*the disk is gone"):
        model("tiny-bert").classify(reader)


def test_no_inputs() -> None:
    for inputs in ([], iter(()), np.array([], str), pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        results = model("tiny-bert").classify(inputs, kept=True)
        assert results.logits.shape == results.probs.shape == (0, 5) and results.logits.dtype == np.float32
        assert results.retention.shape == results.flops.shape == (0,) and results.labels == results.kept == []
        assert repr(results) == "<Classifications: 0 inputs, 5 labels, prune='topk:0.5'>"
    assert model("roberta-embed-cls").embed([]).embeddings.shape == (0, 48)


ARRAY = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("tiny-bert", "w51", "inputs: one str, expected a list, as in [input]"),
        ("tiny-bert", b"w51", "inputs: one bytes, expected a list, as in [input]"),
        ("tiny-bert", {"text": "w51"}, "inputs: one dict, expected a list"),
        ("tiny-bert", 3, "'int' object is not iterable"),
        ("tiny-bert", ["w51", 3], "input 2: int, expected a str, a pair of two (tuple), a picture as bytes"),
        ("tiny-bert", ["w51", None], "input 2: NoneType, expected a str"),
        ("tiny-bert", [("w51", "w41", "w11")], "input 1: a tuple of 3, expected two texts (a pair)"),
        ("tiny-bert", [("w51", 3)], "input 1: a tuple of 2, expected two texts (a pair)"),
        ("tiny-vit", [ARRAY.astype(np.float32)], "input 1: an array of float32 (4, 5, 3), expected uint8 [height, width, 3]"),
        ("tiny-vit", [ARRAY[:, :, :1]], "input 1: an array of uint8 (4, 5, 1), expected uint8 [height, width, 3]"),
        ("tiny-vit", ARRAY, "input 1: an array of uint8 (5, 3), expected uint8 [height, width, 3]"),
    ],
)
def test_other_types(name: str, inputs: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        model(name).classify(inputs)
    assert str(raised.value).startswith(message)
