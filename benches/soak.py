#!/usr/bin/env python3
"""Sends one process many requests of varied length and rule, and tells its memory after the first hundred and at the end (Linux).

    cargo build --release && python benches/soak.py [--backend cpu|gpu] [--requests 10000]
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
RULES = ["dense", "topk:0.5", "topk:0.3", "concrete", "forward:0.5"]
NUM_WORDS = [1, 3, 8, 15, 30, 60, 120]
WARM_UP = 100


def resident_kib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--requests", type=int, default=10_000)
    args = parser.parse_args()
    if args.requests <= WARM_UP:
        parser.error(f"--requests {args.requests}: expected more than {WARM_UP}")
    binary = os.environ.get("STTABT_BENCH", ROOT / "target/release/sttabt-bench")
    command = [binary, "calls", "--backend", args.backend, "--model", ROOT / "models/sst2-minilm"]
    vocabulary = (ROOT / "models/sst2-minilm/vocab.txt").read_text(encoding="utf-8").split("\n")[2000:8000]
    choose = random.Random(1)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for number in range(1, args.requests + 1):
            text = " ".join(choose.choices(vocabulary, k=choose.choice(NUM_WORDS)))
            process.stdin.write(json.dumps({"prune": choose.choice(RULES), "texts": [text]}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or '{"error": "sttabt-bench ended"}')
            if "error" in answer:
                sys.exit(f"request {number}: {answer['error']}")
            if number == WARM_UP:
                first = resident_kib(process)
        last = resident_kib(process)
        process.stdin.close()
    print(f"{args.requests} requests on {args.backend}: {first} KiB after {WARM_UP}, {last} KiB at the end, {100 * (last / first - 1):+.1f} %")


if __name__ == "__main__":
    main()
