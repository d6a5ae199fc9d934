"""What the tests share: the fixtures' models, and the command whose answers the package must give."""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sttabt

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures"


def folder(name: str) -> Path:
    """A model: of the fixtures, of their families, or of `models/`."""
    found = [place / name for place in (FIXTURES, FIXTURES / "families", ROOT / "models") if (place / name / "config.json").exists()]
    assert found, name
    return found[-1]


@functools.cache
def model(name: str) -> sttabt.Model:
    return sttabt.Model.load(folder(name), backend="cpu")


@functools.cache
def program() -> Path:
    """The command. `./test` has built it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    found = target / "release" / "sttabt"
    if not found.exists():
        build = ["cargo", "build", "--release", "--locked", "--package", "sttabt-command", "--bin", "sttabt"]
        subprocess.run(build, cwd=ROOT, check=True)
    return found


def command(*args: str | Path, stdin: str | None = None) -> Any:
    """What the command prints with `--json`."""
    run = subprocess.run(
        [program(), *args, "--backend", "cpu", "--json"], input=stdin, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def refusal(*args: str | Path, stdin: str | None = None) -> str:
    """What the command says of what it refuses."""
    run = subprocess.run([program(), *args, "--backend", "cpu"], input=stdin, capture_output=True, text=True, check=False)
    assert run.returncode != 0, run.stdout
    return run.stderr.splitlines()[-1].removeprefix("error: ")


@pytest.fixture(scope="session")
def words() -> list[str]:
    """Texts of 1 to 60 words that `tiny-bert` knows."""
    return [" ".join(f"w{3 + (7 * text + 5 * word) % 90}" for word in range(1 + text * 13 % 60)) for text in range(300)]


def pytest_configure(config: pytest.Config) -> None:
    about = "runs in a process of its own with one thread, so that a group has 2048 tokens on every machine"
    config.addinivalue_line("markers", f"one_thread: {about}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not pyfuncitem.get_closest_marker("one_thread") or os.environ.get("RAYON_NUM_THREADS") == "1":
        return None
    args = ["--quiet", "-p", "no:cacheprovider", f"{pyfuncitem.path}::{pyfuncitem.name}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *args], env={**os.environ, "RAYON_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return True


@pytest.fixture(autouse=True)
def no_test_hangs() -> Iterator[None]:
    """Two threads that wait for each other end the run, with all tracebacks."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
