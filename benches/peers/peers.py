#!/usr/bin/env python3
"""Times ONNX Runtime and PyTorch on the CPU in turn with sttabt: same weights, token ids or pixels, and threads. See README.md."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Threads of one engine still look for work for some milliseconds after a call; the next engine's turn begins after that.
PAUSE_S = 0.02
# The dense logits of all engines agree with ours within this, or they do not compute the same model.
TOLERANCE = {"f32": 1e-2, "int8": 1.5}


class Sttabt:
    """`sttabt-bench calls`: a line in, a line out."""

    def __init__(self, model, threads):
        binary = os.environ.get("STTABT_BENCH", ROOT / "target/release/sttabt-bench")
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        command = [binary, "calls", "--backend", "cpu", "--model", model]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def __call__(self, prune, **inputs):
        self.process.stdin.write(json.dumps({"prune": prune, **inputs}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "sttabt-bench ended"}')
        if "error" in answer:
            sys.exit(f"sttabt-bench: {answer['error']}")
        return answer


class Network(torch.nn.Module):
    """Logits from token ids or pixels, as the exporter wants it."""

    def __init__(self, folder, is_text):
        super().__init__()
        kind = transformers.BertForSequenceClassification if is_text else transformers.ViTForImageClassification
        self.is_text = is_text
        # PyTorch's own attention is its fastest; ONNX Runtime fuses the written-out one.
        self.fused = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        self.plain = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        # The exporter gives every part the whole's mode back.
        self.eval()

    def forward(self, values, network=None):
        network = network or self.plain
        return (network(input_ids=values) if self.is_text else network(pixel_values=values)).logits


def export(network, values, path):
    axes = {"values": {0: "batch", 1: "tokens"} if network.is_text else {0: "batch"}}
    names = {"input_names": ["values"], "output_names": ["logits"]}
    torch.onnx.export(network, (values,), path, opset_version=17, dynamic_axes=axes, dynamo=False, **names)


def to_int8(onnx, folder):
    """What ONNX Runtime's documentation advises for transformers: weights per channel, inputs on the fly."""
    prepared, quantized = os.path.join(folder, "prepared.onnx"), os.path.join(folder, "int8.onnx")
    quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, quantized, per_channel=True, weight_type=QuantType.QInt8)
    return quantized


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def words(model):
    """Words of the vocabulary that look as if they were one token each; the ids that come back are what counts."""
    lines = (pathlib.Path(model) / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line.isascii() and line.isalnum() and line[0].isalpha() and len(line) > 1][:64]


def texts(vocabulary, batch, tokens):
    word = lambda sample, place: vocabulary[(7 * sample + place) % len(vocabulary)]
    return [" ".join(word(sample, place) for place in range(tokens - 2)) for sample in range(batch)]


def without_resizing(model, folder):
    """The model in a folder of its own, which takes pictures as they are: theirs begins with pixels, so ours is to resize none."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    for file in pathlib.Path(model).resolve().iterdir():
        if file.name != "preprocessor_config.json":
            (folder / file.name).symlink_to(file)
    config = json.loads((pathlib.Path(model) / "preprocessor_config.json").read_text())
    config |= {"do_resize": False, "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder, config


def pixels(config, image):
    """What Hugging Face's image processor gives for a picture of the model's own size."""
    values = image.astype(np.float32) * config.get("rescale_factor", 1 / 255)
    values = (values - np.array(config.get("image_mean", 0.5))) / np.array(config.get("image_std", 0.5))
    return values.transpose(2, 0, 1).astype(np.float32)


def timed(call):
    start = time.perf_counter()
    result = call()
    return (time.perf_counter() - start) * 1e3, result


def setting(name, ours, network, onnx, rules, inputs, values, rounds):
    """All engines on one batch, round by round; the runs as `sttabt-bench run` writes them. `ours` and `onnx` are by precision."""
    as_torch = torch.from_numpy(values)
    batch, dense = len(values), ours["f32"]("dense", **inputs)
    tokens = values.shape[1] if network.is_text else network.fused.vit.embeddings.position_embeddings.shape[1]
    engines = {}
    for precision, theirs in onnx.items():
        engines["onnxruntime", precision, "dense"] = lambda theirs=theirs: timed(lambda: theirs.run(None, {"values": values})[0])
    engines["pytorch", "f32", "dense"] = lambda: timed(lambda: network(as_torch, network.fused).numpy())
    for precision, engine in ours.items():
        for rule in rules:
            answer = lambda rule=rule, engine=engine: engine(rule, **inputs)
            engines["cpu", precision, rule] = lambda answer=answer: (lambda it: (it["ms"], it["logits"]))(answer())
    for (engine, precision, rule), call in engines.items():
        difference = np.abs(np.array(call()[1]) - np.array(dense["logits"])).max()
        if rule == "dense" and not difference < TOLERANCE[precision]:
            sys.exit(f"{name}: {engine} {precision} does not compute the same logits: they differ by {difference:.3g}")
    all_ms = {key: [] for key in engines}
    keys = list(engines)
    for turn in range(rounds):
        # Each engine takes its turn in being first; its first call of a turn warms the caches.
        for key in keys[turn % len(keys):] + keys[:turn % len(keys)]:
            time.sleep(PAUSE_S)
            engines[key]()
            all_ms[key].append(engines[key]()[0])
    runs = []
    for (engine, precision, rule), ms in all_ms.items():
        answer = ours[precision](rule, **inputs)
        ms.sort()
        median = statistics.median(ms)
        times = {"min": ms[0], "median": median, "p90": ms[-(-9 * len(ms) // 10) - 1]}
        flops = answer["flops"]
        runs.append({
            "model": name, "backend": engine if precision == "f32" else f"{engine} {precision}", "prune": rule, "batch": batch, "tokens": tokens, "rounds": rounds,
            "ms": times, "stages_ms": {}, "flops": flops, "retention": answer["retention"],
            "gflops_per_s": flops["total"] / median / 1e6,
        })
    return runs


def show(runs):
    theirs = [run for run in runs if run["backend"].startswith("onnxruntime")]
    columns = "".join(f"{'speed of ' + run['backend'] + ', by min and median':>52}" for run in theirs)
    print(f"{runs[0]['model']}, {runs[0]['batch']} x {runs[0]['tokens']} tokens, {runs[0]['rounds']} rounds")
    print(f"{'engine':24}{'min ms':>10}{'median':>10}{'p90':>10}{'GFLOP/s':>10}{columns}")
    for run in runs:
        ms, name = run["ms"], f"{run['backend']} {run['prune']}"
        ratio = lambda their: f"{their['ms']['min'] / ms['min']:.2f} x {their['ms']['median'] / ms['median']:8.2f} x"
        ratios = "".join(f"{ratio(their):>52}" for their in theirs)
        print(f"{name:24}{ms['min']:10.2f}{ms['median']:10.2f}{ms['p90']:10.2f}{run['gflops_per_s']:10.1f}{ratios}")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser.add_argument("--model", default=str(ROOT / "models/sst2-minilm"), help="a model folder")
    parser.add_argument("--prune", default="dense;topk:0.5;topk:0.3", help="rules with semicolons between them")
    parser.add_argument("--batch", type=numbers, default=[1, 8])
    parser.add_argument("--tokens", type=numbers, default=[32, 128], help="of texts")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--int8", action="store_true", help="time both engines with int8 weights too")
    parser.add_argument("--onnx", help="write the model as ONNX, for web.mjs, and time nothing; with --int8 quantized")
    parser.add_argument("--json", help="write the numbers, in the shape of sttabt-bench run --json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # The newer exporter asks for one more package, and writes a graph that ONNX Runtime fuses less of.
    warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export.*")
    # Of checks of the input's size, which are right for every batch of this script.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    config = json.loads((pathlib.Path(args.model) / "config.json").read_text())
    is_text = config["model_type"] == "bert"
    name = pathlib.Path(args.model).resolve().name
    network = Network(args.model, is_text)
    if args.onnx:
        size = config.get("image_size", 0)
        values = torch.zeros(1, 8, dtype=torch.int64) if is_text else torch.zeros(1, 3, size, size)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            export(network, values, args.onnx)
            if args.int8:
                shutil.copy(to_int8(args.onnx, folder), args.onnx)
        return
    report = {
        "environment": {
            "adapter": ["CPU"], "driver": [""], "cpu": platform.processor(), "cores": os.cpu_count(), "threads": args.threads,
            "os": platform.system().lower(), "arch": platform.machine(),
            "versions": {"onnxruntime": onnxruntime.__version__, "pytorch": torch.__version__},
        },
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        folders = {"f32": args.model}
        if args.int8:
            folders["int8"] = os.path.join(folder, "quantized")
            binary = os.environ.get("STTABT", ROOT / "target/release/sttabt")
            subprocess.run([binary, "quantize", "--model", args.model, "--out", folders["int8"]], check=True)
        batches = []
        if is_text:
            ours = {precision: Sttabt(path, args.threads) for precision, path in folders.items()}
            for tokens in args.tokens:
                for batch in args.batch:
                    inputs = {"texts": texts(words(args.model), batch, tokens)}
                    ids = ours["f32"]("dense", **inputs)["input_ids"]
                    if {len(row) for row in ids} != {tokens}:
                        sys.exit(f"the words are not one token each: {sorted({len(row) for row in ids})}")
                    batches.append((inputs, np.array(ids, dtype=np.int64)))
        else:
            file = os.path.join(folder, "noise.png")
            size = config["image_size"]
            image = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(image).save(file)
            ours = {}
            for precision, path in folders.items():
                model, preprocessor = without_resizing(path, os.path.join(folder, precision))
                ours[precision] = Sttabt(model, args.threads)
            values = pixels(preprocessor, image)
            batches = [({"images": [file] * batch}, np.stack([values] * batch)) for batch in args.batch]
        path = os.path.join(folder, "model.onnx")
        export(network, torch.from_numpy(batches[-1][1]), path)
        onnx = {"f32": session(path, args.threads)}
        if args.int8:
            onnx["int8"] = session(to_int8(path, folder), args.threads)
        for inputs, values in batches:
            runs = setting(name, ours, network, onnx, args.prune.split(";"), inputs, values, args.rounds)
            show(runs)
            report["runs"] += runs
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
