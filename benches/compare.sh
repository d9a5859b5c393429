#!/usr/bin/env bash
# The paper's search step here and in PyTorch, in turn, on the same threads; prints a table of ratios.
#
#     pip install -r benches/pytorch/requirements.txt
#     benches/compare.sh                 first order; `benches/compare.sh second` for the second
#     MODES="eager channels-last" ROUNDS=1 SAMPLES=1 benches/compare.sh second
set -euo pipefail
cd "$(dirname "$0")/.."
step=${1:-first}
threads=${THREADS:-2}
lines=$(mktemp)
cargo build --release --workspace --features "${FEATURES:-flex}" --example time_step
program=${CARGO_TARGET_DIR:-target}/release/examples/time_step
for round in $(seq "${ROUNDS:-2}"); do
  for kernels in fused recompute; do
    "$program" --step "$step" --kernels "$kernels" --threads "$threads" --samples 5 >>"$lines"
  done
  for mode in ${MODES:-eager channels-last compiled}; do
    python3 benches/pytorch/search_step.py --step "$step" --mode "$mode" --threads "$threads" \
      --samples "${SAMPLES:-2}" >>"$lines" || echo "pytorch $mode failed" >&2
  done
done
python3 - "$lines" <<'PYTHON'
import collections, json, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["mode"]].append(row)
def middle(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
medians = {mode: middle([r["median_s"] for r in group]) for mode, group in rows.items()}
best = min(median for mode, median in medians.items() if "ec-darts" in mode)
print("| way | median s | fastest to slowest s | peak MiB | times ours |")
print("| --- | --- | --- | --- | --- |")
for mode, group in rows.items():
    low, high = min(r["fastest_s"] for r in group), max(r["slowest_s"] for r in group)
    peak = max(r["peak_mib"] for r in group)
    print(f"| {mode} | {medians[mode]:.2f} | {low:.2f} to {high:.2f} | {peak} | {medians[mode] / best:.1f} |")
PYTHON
