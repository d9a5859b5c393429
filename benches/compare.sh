#!/usr/bin/env bash
# The paper's step here and in PyTorch, in turn, on the same device; prints a table of ratios.
#
#     pip install -r benches/pytorch/requirements.txt
#     benches/compare.sh                           search step, first order; `second`, `retrain` for the others
#     DEVICE=cuda benches/compare.sh retrain       on a GPU: cuda, or wgpu beside PyTorch's CUDA
#     MODES="eager channels-last" ROUNDS=1 SAMPLES=1 benches/compare.sh second
#
# PROGRAM is a time_step that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
step=${1:-first}
device=${DEVICE:-flex}
threads=${THREADS:-2}
case $device in
  flex) torch=cpu modes="eager channels-last compiled" samples=2 ;;
  cuda | wgpu) torch=cuda modes="eager channels-last tf32 graph graph-tf32 graph-bf16" samples=3 ;;
  *) echo "DEVICE is $device, allowed: flex, cuda, wgpu" >&2 && exit 2 ;;
esac
lines=$(mktemp)
program=${PROGRAM:-}
if [ -z "$program" ]; then
  cargo build --release --workspace --features "${FEATURES:-$device}" --example time_step
  program=${CARGO_TARGET_DIR:-target}/release/examples/time_step
fi
for round in $(seq "${ROUNDS:-2}"); do
  for kernels in fused recompute; do
    "$program" --device "$device" --step "$step" --kernels "$kernels" --threads "$threads" --samples 5 >>"$lines"
  done
  # One process a mode, since the peak of resident memory is that of a process.
  for mode in ${MODES:-$modes}; do
    python3 benches/pytorch/search_step.py --device "$torch" --step "$step" --mode "$mode" \
      --threads "$threads" --samples "${SAMPLES:-$samples}" >>"$lines" || echo "pytorch $mode failed" >&2
  done
done
python3 benches/ratios.py "$lines"
