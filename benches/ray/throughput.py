"""Pairs per second of the library in one process, and of python/examples/score.py on a Ray node with the same cores.

    python benches/ray/throughput.py --model MODEL [--rows 20000] [--threads 2] [--rounds 3]

The two run in turn. The last lines are a table for docs/scale-out.md, with what 10^9 such pairs cost at this speed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["query", "passage"]
WORDS = "the story is dull and I was bored after ten minutes but it looks beautiful how long does a flea live in months".split()
CORES_OF_A_MACHINE = 16


def write(folder: Path, num_rows: int, num_words: int) -> None:
    """Pairs of a short query and a passage of about so many words, in files of 1000."""
    folder.mkdir()
    for start in range(0, num_rows, 1000):
        rows = range(start, min(start + 1000, num_rows))
        lengths = [num_words // 2 + row * 37 % num_words for row in rows]
        passages = [" ".join(WORDS[(row + place * place) % len(WORDS)] for place in range(length)) for row, length in zip(rows, lengths)]
        queries = [" ".join(WORDS[(row * 3 + place) % len(WORDS)] for place in range(6)) for row in rows]
        pq.write_table(pa.table({"id": list(rows), "query": queries, "passage": passages}), folder / f"{start:09}.parquet")


def plain(source: str, target: str, model: str, prune: str, threads: int) -> float:
    """Seconds, in a process of its own, so that each run has its own threads."""
    run = subprocess.run(
        [sys.executable, __file__, "--plain", source, target, "--model", model, "--prune", prune, "--threads", str(threads)],
        capture_output=True, text=True, check=True,
    )
    return float(run.stdout)


def plain_here(source: str, target: str, model: str, prune: str, threads: int) -> None:
    sys.path.insert(0, str(ROOT / "python" / "examples"))
    import score

    # As on Ray: the model is loaded within the time, and the same five columns are written.
    start = time.monotonic()
    scorer = score.Scorer(model, COLUMNS, prune, threads)
    Path(target).mkdir()
    for file in sorted(Path(source).glob("*.parquet")):
        pq.write_table(scorer(pq.read_table(file)), Path(target) / file.name)
    print(time.monotonic() - start)


def on_ray(source: str, target: str, model: str, prune: str) -> float:
    sys.path.insert(0, str(ROOT / "python" / "examples"))
    import score

    start = time.monotonic()
    score.score(source, target, model, COLUMNS, prune=prune)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prune", default="topk:0.5")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=60, help="of a passage, on average")
    parser.add_argument("--threads", type=int, default=2, help="cores of the node, with a model each; and threads of the process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain_here(*args.plain, args.model, args.prune, args.threads)
        return
    import ray

    os.environ["PYTHONPATH"] = str(ROOT / "python" / "examples")
    ray.init(num_cpus=args.threads)
    seconds: dict[str, list[float]] = {"plain": [], "Ray": []}
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/in", f"{folder}/out"
        write(Path(source), args.rows, args.words)
        for _ in range(args.rounds):
            seconds["plain"].append(plain(source, target, args.model, args.prune, args.threads))
            shutil.rmtree(target)
            seconds["Ray"].append(on_ray(source, target, args.model, args.prune))
            shutil.rmtree(target)
    speeds = {name: args.rows / statistics.median(runs) for name, runs in seconds.items()}
    print(f"\n{args.rows} pairs, passages of about {args.words} words, {args.prune}, {args.threads} cores, median of {args.rounds}")
    print("| | pairs/s | pairs/s and core |\n|---|---|---|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:.0f} | {speed / args.threads:.0f} |")
    print(f"Ray reaches {speeds['Ray'] / speeds['plain']:.2f} of the plain library; seconds {seconds}")
    hours = 1e9 / (speeds["Ray"] / args.threads) / CORES_OF_A_MACHINE / 3600
    print(f"10^9 pairs: {hours:.0f} hours of a machine with {CORES_OF_A_MACHINE} such cores")


if __name__ == "__main__":
    main()
