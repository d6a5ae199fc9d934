#!/usr/bin/env python3
"""Sends `sttabt serve` requests of many clients at once, and compares every answer with that of the same request alone.

    sttabt serve --model rerank-minilm-l12 --prune dense --request-seconds 3600 &
    python benches/serve.py --pid $! --data FOLDER [--clients 32] [--requests 200] [--passages 100]

FOLDER holds NAME.queries.tsv and NAME.candidates.tsv, as `sttabt eval --rank` reads them.
"""

import argparse
import collections
import csv
import http.client
import json
import pathlib
import threading
import time


def requests_of(folder, num_requests, num_passages):
    queries, passages = {}, collections.defaultdict(list)
    for file in sorted(folder.glob("*.queries.tsv")):
        with open(file, encoding="utf-8", newline="") as rows:
            queries.update((row["qid"], row["query"]) for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE))
    for file in sorted(folder.glob("*.candidates.tsv")):
        with open(file, encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
                passages[row["qid"]].append(row["passage"])
    bodies = [
        json.dumps({"query": query, "texts": passages[qid][:num_passages], "raw_scores": True})
        for qid, query in queries.items()
        if len(passages[qid]) >= num_passages
    ]
    return [bodies[number % len(bodies)] for number in range(num_requests)]


def post(connection, body):
    connection.request("POST", "/rerank", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {answer.decode()}")
    return answer


def peak_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1:8080")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--pid", type=int, help="of the server, for its peak of memory")
    args = parser.parse_args()
    bodies = requests_of(args.data, args.requests, args.passages)
    alone, one = {}, http.client.HTTPConnection(args.host)
    start = time.perf_counter()
    for body in dict.fromkeys(bodies):
        alone[body] = post(one, body)
    alone_s = time.perf_counter() - start
    memory = f", {peak_mib(args.pid):.0f} MiB at its peak" if args.pid else ""
    print(f"{len(alone)} requests one after another: {alone_s / len(alone):.2f} s each{memory}", flush=True)

    lock, waiting, seconds, wrong = threading.Lock(), list(enumerate(bodies)), [], []

    def client():
        connection = http.client.HTTPConnection(args.host)
        while True:
            with lock:
                if not waiting:
                    return
                number, body = waiting.pop()
            start = time.perf_counter()
            answer = post(connection, body)
            taken = time.perf_counter() - start
            with lock:
                seconds.append(taken)
                if answer != alone[body]:
                    wrong.append(number)

    start = time.perf_counter()
    clients = [threading.Thread(target=client) for _ in range(args.clients)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    total = time.perf_counter() - start
    seconds.sort()
    p50, p99 = (seconds[min(len(seconds) - 1, int(len(seconds) * share))] for share in (0.5, 0.99))
    memory = f", {peak_mib(args.pid):.0f} MiB at its peak" if args.pid else ""
    print(f"{args.clients} clients at once: {len(seconds)} of {len(bodies)} answered, {len(wrong)} not as alone; "
          f"p50 {p50:.2f} s, p99 {p99:.2f} s, {len(seconds) / total:.2f} requests/s{memory}")
    if wrong or len(seconds) < len(bodies):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
