#!/usr/bin/env python3
"""Models of full size with random weights: makes their folders, and compares `sttabt`'s dense numbers with transformers', and the peak of its
memory with the weights. See README.md."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of logits: sums of 768 to 4096 products are taken in another order.
TOLERANCE = 1e-3
# The peak of memory over the bytes of the weights.
MEMORY = 1.3

BASE = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
LARGE = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16)
MODELS = {
    "bert-base": dict(BASE, vocab_size=30522),
    "bert-large": dict(LARGE, vocab_size=30522),
    "bert-base-multilingual": dict(BASE, vocab_size=119547),
    "vit-b16-224": dict(BASE, image_size=224),
    "vit-b16-384": dict(BASE, image_size=384),
    "vit-l16-224": dict(LARGE, image_size=224),
}


def network(sizes):
    """A network whose weights are large enough that attention is not flat."""
    torch.manual_seed(0)
    if "vocab_size" in sizes:
        config = transformers.BertConfig(num_labels=3, **sizes)
        model = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.ViTConfig(num_labels=10, patch_size=16, **sizes)
        model = transformers.ViTForImageClassification(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0.0, 0.04)
            elif key.endswith("bias"):
                value.normal_(0.0, 0.02)
    return model


def make(name, folder):
    """The folder of a model."""
    sizes = MODELS[name]
    network(sizes).save_pretrained(folder)
    if "vocab_size" in sizes:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{word}" for word in range(5, sizes["vocab_size"])]
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    else:
        size = sizes["image_size"]
        preprocessor = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}}
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def make_approx(name, folder):
    """A random ApproxNet of a quarter of the width. Its layers look at much the same tokens, as those of a trained one do."""
    sizes = MODELS[name]
    widths = {key: sizes[key] // 4 for key in ("hidden_size", "intermediate_size")}
    approx = network(sizes | widths)
    with torch.no_grad():
        for key, value in approx.named_parameters():
            if "query.weight" in key:
                value.mul_(0.5)
            elif "query.bias" in key:
                value.normal_(0.0, 0.5, generator=torch.Generator().manual_seed(1))
            elif "output.dense" in key:
                value.zero_()
            elif "key.weight" in key:
                value.normal_(0.0, 0.04, generator=torch.Generator().manual_seed(2))
    approx.save_pretrained(folder / "approx")


def inputs(name, folder):
    """What the command gets, and what transformers gets."""
    random = np.random.default_rng(1)
    if "vocab_size" in MODELS[name]:
        rows = [random.integers(5, MODELS[name]["vocab_size"], length - 2) for length in (3, 128, 512)]
        texts = [" ".join(f"w{word}" for word in row) for row in rows]
        return ["--", *texts], [{"input_ids": torch.tensor([[2, *row.tolist(), 3]])} for row in rows]
    size = MODELS[name]["image_size"]
    pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    values = torch.tensor(pixels.astype(np.float32) / 255 * 2 - 1).permute(2, 0, 1)[None]
    return ["--image", str(folder / "noise.png")], [{"pixel_values": values}]


def check(name, folder):
    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    arguments, given = inputs(name, folder)
    model = kind.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        given = [{key: value.double() if value.is_floating_point() else value for key, value in one.items()} for one in given]
        expected = [model(**one).logits[0].numpy() for one in given]
    del model
    binary = os.environ.get("STTABT", ROOT / "target/release/sttabt")
    command = [binary, "classify", "--model", folder, "--backend", "cpu", "--prune", "dense", "--json", *arguments]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        # Not `ru_maxrss`: a child begins with its parent's, and this parent holds PyTorch.
        peak = 0
        while process.poll() is None:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak] + [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")])
            time.sleep(0.005)
        if process.returncode != 0:
            sys.exit(f"{name}: sttabt ended with {process.returncode}")
        output.seek(0)
        results = json.load(output)["results"]
    far = max(np.abs(np.array(result["logits"]) - logits).max() for result, logits in zip(results, expected, strict=True))
    files = [folder / "model.safetensors", folder / "approx/model.safetensors"]
    weights = sum(file.stat().st_size for file in files if file.exists())
    memory = peak / weights
    print(f"{name}: {weights / 1e6:.0f} MB, logits within {far:.1e} of transformers', peak memory {memory:.2f} of the weights")
    return far <= TOLERANCE and memory <= MEMORY


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the models; those that are there are not made again")
    parser.add_argument("--approx", action="store_true", help="give the models an ApproxNet, for the speed of pruning")
    parser.add_argument("models", nargs="*", default=list(MODELS), help=f"of {', '.join(MODELS)}")
    args = parser.parse_args()
    passed = True
    for name in args.models:
        folder = args.out / name
        if not (folder / "model.safetensors").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(name, folder)
        if args.approx and not (folder / "approx").exists():
            make_approx(name, folder)
        passed &= check(name, folder)
    sys.exit(0 if passed else f"beyond {TOLERANCE} or {MEMORY}")


if __name__ == "__main__":
    main()
