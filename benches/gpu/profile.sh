#!/usr/bin/env bash
# Where a step's time goes on an NVIDIA GPU: every kernel of one step, measured by Nsight Compute.
#
#     benches/gpu/profile.sh PACK [ARGUMENTS OF time_step...]
#
# PACK is a folder with the program `time_step` (and libllvm-stub.so, where it was built with cuda-nvrtc and without
# LLVM). OUT (./measured) gets profile.csv; the table by kernel is printed. LIMIT is the number of seconds that it may take.
set -uo pipefail
[ $# -gt 0 ] || { sed -n '2,7p' "$0" >&2 && exit 2; }
pack=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
out=${OUT:-measured}
mkdir -p "$out"
export CUDA_PATH=${CUDA_PATH:-/usr/local/cuda}
# After the caller's: NVRTC with machine code made before (offline.sh) comes first.
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$CUDA_PATH/lib64
preload=()
[ -e "$pack/libllvm-stub.so" ] && preload=(env "LD_PRELOAD=$pack/libllvm-stub.so")
metrics=gpu__time_duration.sum,dram__bytes.sum,lts__t_bytes.sum,launch__registers_per_thread
metrics=$metrics,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__sass_thread_inst_executed_op_ffma_pred_on.sum
metrics=$metrics,smsp__inst_executed.sum,launch__grid_size,launch__block_size
# The first step and its warm-up block compile; the launches after SKIP are those of warm steps.
timeout -k 5 "${LIMIT:-120}" "${preload[@]}" "${NCU:-ncu}" --clock-control none --cache-control none --csv --page raw \
  --launch-skip "${SKIP:-1100}" --launch-count "${COUNT:-1000}" --metrics "$metrics" \
  "$pack/time_step" --device cuda --steps-per-wait 1 --samples 2 "$@" >"$out/profile.csv" 2>"$out/profile.err"
code=$?
[ $code = 0 ] || { echo "profile: ended with $code: $(tail -n 2 "$out/profile.err" | tr '\n' ' ')"; }
python3 benches/gpu/profile.py "$out/profile.csv"
