"""Scores a folder of Parquet files on a Ray cluster, and writes Parquet again.

    python python/examples/score.py --model MODEL --columns query,passage INPUT OUTPUT

Every row of the input comes out once, with what it had and five columns more: score, label, retention, flops, truncated. Reading,
scheduling, retries, back-pressure and progress are Ray's; one actor holds one model. `docs/scale-out.md` has the details.
"""

from __future__ import annotations

import argparse
import os

import pyarrow as pa
import ray.data


ADDED = ("score", "label", "retention", "flops", "truncated")


class Scorer:
    """A model in an actor."""

    def __init__(self, model: str, columns: list[str], prune: str | None, threads: int) -> None:
        # The library's threads are made with its first call.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import sttabt

        self.model = sttabt.Model.load(model, backend="cpu")
        self.columns = columns
        self.prune = prune

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The same rows with five columns more."""
        results = self.model.classify(rows.select(self.columns), prune=self.prune)
        if self.model.task == "regression":
            scores = results.logits[:, 0]
        else:
            scores = results.probs.max(axis=1)
        labels = pa.array(results.labels, pa.string())
        for name, values in zip(ADDED, (scores, labels, results.retention, results.flops, results.truncated), strict=True):
            rows = rows.append_column(name, pa.array(values))
        return rows


def absolute(path: str) -> str:
    """A path as it is on every node, whose workers run in folders of their own. A URI is one already."""
    return path if "://" in path else os.path.abspath(path)


def refuse_added(names: list[str], source: str) -> None:
    """Two columns of one name would be written, and could not be told apart."""
    for name in names:
        if name in ADDED:
            raise ValueError(f"{source} has a column `{name}`, and the job adds one of this name: rename or drop it first")


def score(
    source: str,
    target: str,
    model: str,
    columns: list[str],
    *,
    prune: str | None = None,
    actors: int | None = None,
    threads: int = 1,
    rows_per_call: int = 256,
) -> None:
    """Scores what is in `source`, a folder (or a URI) that every node sees, and writes it to `target`.

    `actors` is how many models there are; without, one for each `threads` cores of the cluster. A call of the model has
    `rows_per_call` rows.
    """
    if not ray.is_initialized():
        ray.init()
    if actors is None:
        actors = max(1, int(ray.cluster_resources()["CPU"]) // threads)
    # The newer reader of Ray 2.60 lists files in a task of a whole core, which would wait for ever where models have all of them.
    ray.data.DataContext.get_current().use_datasource_v2 = False
    # A core is its model's, but for a tenth that reads and writes the model's rows.
    files = ray.data.read_parquet(absolute(source), num_cpus=0.1)
    refuse_added(files.columns() or [], source)
    scored = files.map_batches(
        Scorer,
        fn_constructor_kwargs={
            "model": os.path.abspath(model),
            "columns": columns,
            "prune": prune,
            "threads": threads,
        },
        batch_format="pyarrow",
        batch_size=rows_per_call,
        # Fewer where a node is gone: the job goes on with what is left.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        num_cpus=threads - 0.1,
        udf_modifying_row_count=False,
    )
    scored.write_parquet(absolute(target), ray_remote_args={"num_cpus": 0.1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder of Parquet files, or one file")
    parser.add_argument("target", help="the folder to write to")
    parser.add_argument("--model", required=True, help="a model folder that every node sees")
    parser.add_argument(
        "--columns", required=True, help="the column of texts, or of pictures (paths or bytes); two with a comma for pairs"
    )
    parser.add_argument("--prune", help="a rule, such as topk:0.5; without one, the model's own")
    parser.add_argument("--actors", type=int, help="how many models; without, as many as the cluster has cores for")
    parser.add_argument("--threads", type=int, default=1, help="cores for each model")
    parser.add_argument("--rows-per-call", type=int, default=256)
    args = parser.parse_args()
    score(
        args.source,
        args.target,
        args.model,
        args.columns.split(","),
        prune=args.prune,
        actors=args.actors,
        threads=args.threads,
        rows_per_call=args.rows_per_call,
    )


if __name__ == "__main__":
    main()
