#!/usr/bin/env bash
# What a step on the weights costs in the auxiliary model, beside the supernet's: for the genotypes
# of ten fresh alphas, in turn; prints a table.
#
#     benches/auxiliary.sh
set -euo pipefail
cd "$(dirname "$0")/.."
lines=$(mktemp)
cargo build --release --workspace --features "${FEATURES:-flex}" --example time_step
program=${CARGO_TARGET_DIR:-target}/release/examples/time_step
for seed in $(seq 0 9); do
  "$program" --step weights --seed "$seed" --samples "${SAMPLES:-3}" >>"$lines"
  "$program" --step auxiliary --seed "$seed" --samples "${SAMPLES:-5}" >>"$lines"
done
python3 - "$lines" <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("| seed of alpha | convolutions kept, of 16 | supernet s | auxiliary model s | times cheaper |")
print("| --- | --- | --- | --- | --- |")
ratios = []
for seed, (whole, part) in enumerate(zip(rows[::2], rows[1::2])):
    ratios.append(whole["median_s"] / part["median_s"])
    kept, seconds = part["convolutions"], [whole["median_s"], part["median_s"]]
    print(f"| {seed} | {kept} | {seconds[0]:.2f} | {seconds[1]:.3f} | {ratios[-1]:.1f} |")
print(f"mean {sum(ratios) / len(ratios):.1f}, from {min(ratios):.1f} to {max(ratios):.1f}")
PYTHON
