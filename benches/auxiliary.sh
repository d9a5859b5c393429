#!/usr/bin/env bash
# Times a step on the weights of the auxiliary model and one of the supernet, in turn: for the genotypes
# of ten fresh alphas, and for those that the transitions of a recorded search trained. Prints two tables.
#
#     benches/auxiliary.sh [METRICS]     by default docs/runs/ecdarts-cpu.jsonl
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --workspace --features "${FEATURES:-flex}" --example time_step
python3 - "${CARGO_TARGET_DIR:-target}/release/examples/time_step" \
  "${1:-docs/runs/ecdarts-cpu.jsonl}" "${SAMPLES:-5}" <<'PYTHON'
import json, statistics, subprocess, sys

program, metrics, samples = sys.argv[1:]


def step(kind, *of):
    """Median seconds, and the convolutions that the auxiliary model keeps."""
    arguments = [program, "--step", kind, "--samples", samples, *of]
    row = json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout)
    return row["median_s"], row["convolutions"]


def table(name, cases):
    print(f"| {name} | convolutions kept, of 16 | supernet s | auxiliary model s | times cheaper |")
    print("| --- | --- | --- | --- | --- |")
    ratios = []
    for number, of in cases:
        (whole, _), (part, kept) = step("weights"), step("auxiliary", *of)
        ratios.append(whole / part)
        print(f"| {number} | {kept} | {whole:.2f} | {part:.3f} | {ratios[-1]:.1f} |", flush=True)
    middle, mean = statistics.median(ratios), statistics.mean(ratios)
    print(f"mean {mean:.1f}, median {middle:.1f}, from {min(ratios):.1f} to {max(ratios):.1f}\n")


table("seed of alpha", [(seed, ["--seed", str(seed)]) for seed in range(10)])
epochs = [row for row in map(json.loads, open(metrics)) if row["transition"]]
genotypes = [(row["epoch"], json.dumps(row["transition"]["genotype"])) for row in epochs]
if genotypes:
    table("epoch", [(epoch, ["--genotype", genotype]) for epoch, genotype in genotypes])
PYTHON
