"""The types are complete, hold in use, and are those of the compiled module."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import files, requires
from pathlib import Path


USE = """
import numpy as np
import sttabt

model = sttabt.Model.load("models/sst2-minilm", backend="cpu")
results = model.classify(["a"], prune="topk:0.5")
labels: list[str] = results.labels
mean: np.float64 = results.retention.mean()
best: int = model.rank("a", ["b"], top_n=1).results[0].index
model.classify(["a"], backend="cpu")
model.load("a", backend="tpu")
results.prune = "dense"
"""


def mypy(*args: str | Path, module: str = "mypy") -> str:
    run = subprocess.run([sys.executable, "-m", module, *map(str, args)], capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def test_use(tmp_path: Path) -> None:
    file = tmp_path / "use.py"
    file.write_text(USE, encoding="utf-8")
    found = mypy("--strict", file)
    assert [line.split(":")[1] for line in found.splitlines() if ": error: " in line] == ["10", "11", "12"], found


def test_the_package() -> None:
    found = mypy("--strict", "--package", "sttabt")
    assert "Success" in found, found


def test_the_stub() -> None:
    found = mypy("sttabt", module="mypy.stubtest")
    assert "Success" in found, found


def test_the_wheel() -> None:
    names = [file.name for file in files("sttabt") or []]
    assert {"py.typed", "_native.pyi", "__init__.py"} <= set(names)
    assert any(name.endswith((".abi3.so", ".pyd")) for name in names), names
    assert [need.split(">")[0] for need in requires("sttabt") or []] == ["numpy"]


def test_nothing_else_is_imported() -> None:
    """Neither Arrow's packages nor PIL."""
    code = "import sys, sttabt; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sttabt" in found and not {"pyarrow", "nanoarrow", "PIL", "pandas", "polars"} & set(found)
