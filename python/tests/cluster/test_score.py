"""The example on a cluster of several nodes, of which one goes away in the middle, and a worker is killed.

Ray is large, and a cluster takes a minute: `./test --all` runs this.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import sttabt
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "python" / "examples"))
import score  # noqa: E402

# A larger run, by hand: 200 files of 1000 rows, and a smaller model.
MODEL = os.environ.get("STTABT_RAY_MODEL", str(ROOT / "models" / "sst2-minilm"))
NUM_FILES = int(os.environ.get("STTABT_RAY_FILES", "12"))
ROWS_PER_FILE = int(os.environ.get("STTABT_RAY_ROWS", "300"))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without cores, and three nodes of one core."""
    # The actors find the example, as they would where it is installed.
    os.environ["PYTHONPATH"] = str(ROOT / "python" / "examples")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def write(folder: Path) -> pa.Table:
    folder.mkdir()
    words = ["dull", "gripping", "the", "story", "film", "bored", "a", "minutes", "beautiful", "it"]
    for file in range(NUM_FILES):
        ids = range(file * ROWS_PER_FILE, (file + 1) * ROWS_PER_FILE)
        texts = [f"{row} " + " ".join(words[row * (place + 3) % 10] for place in range(1 + row % 12)) for row in ids]
        pairs = {"id": list(ids), "query": [f"which film {row % 7}" for row in ids], "passage": texts}
        pq.write_table(pa.table(pairs), folder / f"{file:03}.parquet")
    return pq.read_table(folder).sort_by("id")


def models() -> list[dict[str, Any]]:
    """The actors that have a model, from Ray's own table: its public list of them needs the dashboard."""
    actors = ray._private.state.actors().values()
    return [actor for actor in actors if actor["State"] == "ALIVE" and actor["Pid"] and "Map" in actor["ActorClassName"]]


def test_every_row_is_there_once(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False)
    rows = write(tmp_path / "in")
    happened: list[int] = []
    is_over = threading.Event()

    def disturb() -> None:
        """Once something has been written, kills a worker; then takes a node away that has another."""
        while not is_over.is_set() and len(happened) < 2:
            time.sleep(0.2)
            num_files = len(list((tmp_path / "out").glob("*.parquet")))
            alive = models() if num_files > len(happened) else []
            if not alive:
                continue
            if not happened:
                os.kill(alive[0]["Pid"], signal.SIGKILL)
            else:
                busy = {actor["Address"]["NodeID"] for actor in alive}
                cluster.remove_node(next(node for node in nodes if node.node_id in busy), allow_graceful=False)
            happened.append(num_files)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        score.score(str(tmp_path / "in"), str(tmp_path / "out"), MODEL, ["query", "passage"], prune="topk:0.5", rows_per_call=50)
    finally:
        is_over.set()
        disturber.join()
    num_files = len(list((tmp_path / "out").glob("*.parquet")))
    assert len(happened) == 2 and happened[1] < num_files, (happened, num_files)
    assert len([node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]) == 2
    found = pq.read_table(tmp_path / "out").sort_by("id")
    assert found.num_rows == NUM_FILES * ROWS_PER_FILE and found.select(rows.column_names) == rows
    wanted = sttabt.Model.load(MODEL, backend="cpu").classify(rows.select(["query", "passage"]), prune="topk:0.5")
    assert np.array_equal(found["score"].to_numpy(), wanted.probs.max(axis=1))
    assert found["label"].to_pylist() == wanted.labels
    assert np.array_equal(found["retention"].to_numpy(), wanted.retention)
    assert np.array_equal(found["flops"].to_numpy(), wanted.flops)
    assert found["truncated"].to_pylist() == wanted.truncated.tolist()


def test_columns_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that the job adds is refused before anything runs; relative paths are the caller's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "python" / "examples"))
    monkeypatch.chdir(tmp_path)
    ray.init(num_cpus=1, log_to_driver=False)
    try:
        for folder, rows in (("in", {"text": ["a film"]}), ("scored", {"text": ["a film"], "label": ["old"]})):
            (tmp_path / folder).mkdir()
            pq.write_table(pa.table(rows), tmp_path / folder / "0.parquet")
        with pytest.raises(ValueError, match="scored has a column `label`, .*: rename or drop it first"):
            score.score("scored", "out", "no such model", ["text"])
        assert not (tmp_path / "out").exists()
        score.score("in", "out", MODEL, ["text"])
        assert pq.read_table(tmp_path / "out").column_names == ["text", *score.ADDED]
    finally:
        ray.shutdown()
    assert score.absolute("s3://bucket/in") == "s3://bucket/in"


def test_kinds_of_models() -> None:
    """Pictures as bytes, a model with one output, and no rows."""
    fixtures = ROOT / "tests" / "fixtures"
    files = sorted((fixtures / "tiny-vit").glob("*.png"))
    pictures = pa.table({"id": range(len(files)), "picture": [file.read_bytes() for file in files]})
    found = score.Scorer(str(fixtures / "tiny-vit"), ["picture"], None, 1)(pictures)
    wanted = sttabt.Model.load(fixtures / "tiny-vit", backend="cpu").classify(files)
    assert found.select(["id", "picture"]) == pictures and found["label"].to_pylist() == wanted.labels
    assert np.array_equal(found["score"].to_numpy(), wanted.probs.max(axis=1))
    texts = pa.table({"text": ["a film", "two films"]})
    scorer = score.Scorer(str(fixtures / "families" / "electra-same"), ["text"], "dense", 1)
    wanted = sttabt.Model.load(fixtures / "families" / "electra-same", backend="cpu").classify(texts, prune="dense")
    assert np.array_equal(scorer(texts)["score"].to_numpy(), wanted.logits[:, 0])
    assert scorer(texts[:0]).schema == scorer(texts).schema
