#!/usr/bin/env bash
# All GPU measurements, in one call on a machine with the driver, the CUDA toolkit and this checkout, but without Rust:
# the programs `time_step`, `time_rules`, `search_cifar` and the test binary `integration` come built, in packed or
# plain folders. Each part has a time limit and may fail without the others; a short table of all parts comes last.
#
#     benches/gpu/measure.sh PACK...                       all parts
#     PARTS="steps torch" benches/gpu/measure.sh PACK...   some: device parity steps torch rules growth resume launches
#     DEVICE=wgpu SCALE=0.5 benches/gpu/measure.sh target/release target/release/examples
#
# OUT (./measured) gets the whole outputs. SCALE multiplies the time limits, which stop programs that hang. Together
# they allow 23 minutes; where a call may only take ten, split it with PARTS, `torch` from the rest. KILLS (ten) is the
# number of kills of the small search.
# A folder with libllvm-stub.so has programs whose LLVM is absent (feature cuda-nvrtc): it is loaded before them.
set -uo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || { sed -n '2,13p' "$0" >&2 && exit 2; }
parts=${PARTS:-device parity steps torch rules growth resume launches}
device=${DEVICE:-cuda}
out=${OUT:-measured}
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CUDA_PATH=${CUDA_PATH:-/usr/local/cuda}
# After the caller's: NVRTC with machine code made before (offline.sh) comes first.
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$CUDA_PATH/lib64
# Golden numbers, relative to the checkout: the test binary was built elsewhere.
export EC_DARTS_FIXTURES=${EC_DARTS_FIXTURES:-$PWD/tests/fixtures/reference}

folders=()
for pack in "$@"; do
  if [ -d "$pack" ]; then
    folders+=("$(realpath "$pack")")
  else
    folder=$work/pack-${#folders[@]}
    mkdir "$folder" && tar xf "$pack" -C "$folder" || exit 1
    folders+=("$folder")
  fi
done

table=$out/table.txt
: >"$table"
tell() { printf '%-44s %s\n' "$1" "$2" | tee -a "$table"; }

seconds() { awk -v s="$1" -v by="${SCALE:-1}" 'BEGIN { print s * by }'; }
# NAME: sets `command` to the command that starts this program.
locate() {
  local folder
  for folder in "${folders[@]}"; do
    if [ -x "$folder/$1" ]; then
      command=("$folder/$1")
      [ -e "$folder/libllvm-stub.so" ] && command=(env "LD_PRELOAD=$folder/libllvm-stub.so" "$folder/$1")
      return 0
    fi
  done
  echo "no $1 in ${folders[*]}" >&2
  return 127
}
# SECONDS NAME ARGUMENTS...: a program within a limit.
run() {
  local limit=$1 command
  locate "$2" || return
  shift 2
  timeout -k 5 "$(seconds "$limit")" "${command[@]}" "$@"
}
why() { case $1 in 124 | 137) echo "over its time limit" ;; 127) echo "not there" ;; *) echo "failed, $1" ;; esac; }
# FILE: a JSON line of time_step or search_step.py in short.
short() {
  python3 - "$1" <<'PYTHON'
import json, sys
row = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")][-1]
peak = "" if row["peak_mib"] is None else f", {row['peak_mib']} MiB"
print(f"{1e3 * row['median_s']:.2f} ms ({1e3 * row['fastest_s']:.2f} to {1e3 * row['slowest_s']:.2f}), "
      f"first {row['first_s']:.1f} s{peak}")
PYTHON
}
# SECONDS TITLE ARGUMENTS...: a line of the table by time_step.
timed() {
  local limit=$1 title=$2 file code
  shift 2
  file=$out/$(echo "$title" | tr -c 'a-z0-9\n' -).json
  run "$limit" time_step --device "$device" --threads "$(nproc)" "$@" >"$file" 2>"$file.err"
  code=$?
  if [ $code = 0 ]; then tell "$title" "$(short "$file")"; else tell "$title" "$(why $code): $(tail -n 1 "$file.err")"; fi
}

part_device() {
  if command -v nvidia-smi >/dev/null; then
    tell device "$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader | head -n 1)"
  fi
  tell "CUDA toolkit" "$(cat "$CUDA_PATH/version.json" 2>/dev/null | tr -d ' \n' | grep -o '"cuda":{[^}]*}' || echo "none in $CUDA_PATH")"
  tell "cores" "$(nproc)"
  tell "PyTorch" "$(python3 -c 'import torch; print(torch.__version__)' 2>/dev/null || echo none)"
}
part_parity() {
  local file=$out/parity.txt code
  run 120 integration "on_$device" --nocapture --test-threads 1 >"$file" 2>&1
  code=$?
  tell "tests on $device" "$(grep -E '^test result|skipped on' "$file" | head -n 2 | tr '\n' ' ')"
  [ $code = 0 ] || tell "tests on $device" "$(why $code): $(grep -m 1 -E 'panicked|off by|error' "$file")"
}
part_steps() {
  timed 60 "ours: first order" --step first
  timed 40 "ours: first order, maps computed again" --step first --kernels recompute
  timed 60 "ours: second order" --step second --samples 3
  timed 40 "ours: retraining" --step retrain --samples 3
}
part_torch() {
  python3 -c 'import torch' 2>/dev/null || { tell "PyTorch" "not measured: it is not installed"; return; }
  local step modes mode
  for step in first second retrain; do
    modes="eager graph graph-tf32 graph-bf16"
    [ $step = first ] && modes="eager channels-last tf32 graph graph-tf32 graph-bf16"
    [ $step = second ] && modes="graph graph-tf32"
    for mode in $modes; do
      local file=$out/torch-$step-$mode.json code
      timeout -k 5 "$(seconds 45)" python3 benches/pytorch/search_step.py --device cuda --step $step --mode "$mode" \
        --samples 1 >"$file" 2>"$file.err"
      code=$?
      if [ $code = 0 ]; then tell "PyTorch: $step, $mode" "$(short "$file")"; else
        tell "PyTorch: $step, $mode" "$(why $code): $(tail -n 1 "$file.err")"
      fi
    done
  done
}
# After both sides are measured: the time of PyTorch relative to ours.
ratios() {
  local step
  for step in first second retrain; do
    cat "$out/ours--$step"*.json "$out/torch-$step"-*.json 2>/dev/null >"$work/lines"
    grep -q ec-darts "$work/lines" && grep -q pytorch "$work/lines" || continue
    printf '\n%s\n' "$step"
    python3 benches/ratios.py "$work/lines"
  done
}
part_rules() { # Steps of rules beside that of DARTS, in turn.
  local file=$out/rules.txt code
  run 60 time_rules --device "$device" --turns 3 --steps 5 darts gdas proxyless pc_darts >"$file" 2>"$file.err"
  code=$?
  if [ $code = 0 ]; then
    awk -F ' *[|] *' '$3 + 0 { print $2 "|" $3 " ms (" $4 "), " $5 " times cheaper (" $6 ")" }' "$file" |
      while IFS='|' read -r rule line; do tell "rules: $rule" "$line"; done
  else
    tell rules "$(why $code): $(tail -n 1 "$file.err")"
  fi
}
part_growth() { # Around batch 64, 16 channels, 8 cells, images of 32.
  local value
  for value in 16 32 128 256; do timed 20 "growth: batch $value" --batch "$value" --samples 2 --steps-per-wait 10; done
  for value in 8 32 48; do timed 20 "growth: channels $value" --channels "$value" --samples 2 --steps-per-wait 10; done
  for value in 5 14 20; do timed 20 "growth: cells $value" --cells "$value" --samples 2 --steps-per-wait 10; done
  timed 20 "growth: image 64" --size 64 --samples 2 --steps-per-wait 10
}
part_resume() { # A small search twice, and once more killed at random moments: the same bytes.
  local of=(--device "$device" --config benches/gpu/resume.toml --data data/cifar10-mini --resume)
  local command kill begin first steps step_s kills=${KILLS:-10}
  locate search_cifar || { tell "small search" "$(why 127)"; return; }
  newest() { ls "$work/$1/checkpoints" 2>/dev/null | grep 'safetensors$' | tail -n 1; }
  taken() { newest "$1" | sed 's/[^0-9]//g; s/^0*//; s/^$/0/' | grep . || echo 0; }
  # RUN STEPS: starts it and waits for the checkpoint after this number of steps.
  start() {
    local until
    until=$(awk -v s="$(seconds 180)" -v now=$SECONDS 'BEGIN { printf "%d", now + s }')
    "${command[@]}" "${of[@]}" --out "$work/$1" >"$out/$1.txt" 2>&1 &
    while [ "$(taken "$1")" -lt "$2" ] && kill -0 $! 2>/dev/null && [ $SECONDS -lt "$until" ]; do sleep 0.05; done
  }
  # RUN TITLE: waits for its end.
  finish() {
    timeout "$(seconds 180)" tail --pid=$! -f /dev/null || kill -KILL $!
    wait $! 2>/dev/null || { tell "$2" "$(why $?): $(tail -n 1 "$out/$1.txt")"; return 1; }
  }
  # RUN TITLE: its end, which must have the bytes of the first run.
  same() {
    local name different=()
    finish "$1" "$2" || return
    for name in genotype.json metrics.jsonl "checkpoints/$(newest whole)"; do
      cmp -s "$work/whole/$name" "$work/$1/$name" || different+=("$name")
    done
    if [ ${#different[@]} = 0 ]; then tell "$2" "the same bytes"; else tell "$2" "other bytes: ${different[*]}"; fi
  }
  begin=$EPOCHREALTIME
  start whole 1
  first=$EPOCHREALTIME
  finish whole "small search" || return
  steps=$(taken whole)
  step_s=$(awk -v f="$first" -v e="$EPOCHREALTIME" -v s="$steps" 'BEGIN { print (e - f) / s }')
  tell "small search" "$(awk -v b="$begin" -v f="$first" -v e="$EPOCHREALTIME" -v s="$steps" \
    'BEGIN { printf "%.1f s for %d steps, the first after %.1f s", e - b, s, f - b }')"
  start again 1
  same again "the same search again"
  for ((kill = 1; kill <= kills; kill++)); do
    # A random step of its share of them, and a random moment after its checkpoint; the program cannot catch this signal.
    start killed $((1 + (steps - 1) * (kill - 1) / kills + RANDOM % (1 + steps / kills)))
    sleep "$(awk -v r=$RANDOM -v s="$step_s" 'BEGIN { print r / 32768 * s }')"
    kill -KILL $! 2>/dev/null || tell "kill $kill" "it had ended"
    wait $! 2>/dev/null
    echo "kill $kill after $(newest killed)" >>"$out/kills.txt"
  done
  start killed "$steps"
  same killed "killed $kills times and resumed"
  cp "$work"/whole/genotype.json "$work"/whole/metrics.jsonl "$out"
}
part_launches() {
  mkdir -p "$work/log"
  printf '[profiling]\nlogger = { level = "basic", file = "%s" }\n' "$out/launches.log" >"$work/log/cubecl.toml"
  rm -f "$out/launches.log"
  local step
  step() { (cd "$work/log" && run 60 time_step --device "$device" --samples 1 --steps-per-wait 1); }
  step >"$out/launches.json" 2>"$out/launches.err" || { tell "launches a step" "$(why $?)"; return; }
  python3 benches/gpu/launches.py "$out/launches.log" >"$out/launches.txt" ||
    { tell "launches a step" "$(why $?)"; return; }
  tell "launches a step" "$(head -n 1 "$out/launches.txt"), by kernel in launches.txt"
}

for part in $parts; do
  echo "== $SECONDS s: $part"
  "part_$part"
done
echo
echo "== after $SECONDS s:"
cat "$table"
ratios | tee "$out/ratios.txt"
