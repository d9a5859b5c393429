#!/usr/bin/env bash
# Retrains genotypes one after the other with the same settings and prints a table. Random genotypes are
# drawn by `random-SEED`. A stopped run continues.
#
#     benches/retrain.sh DATA OUT GENOTYPE...
#     benches/retrain.sh cifar-10-batches-bin runs/table ec_darts_cifar runs/cpu/genotype.json random-1
#     CONFIG=configs/retrain_quick.toml THREADS=1 benches/retrain.sh ...
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1 out=$2
shift 2
config=${CONFIG:-configs/retrain_cifar10_cpu.toml}
program=${PROGRAM:-}
if [ -z "$program" ]; then
  cargo build --release --workspace --features "${FEATURES:-flex}"
  program=${CARGO_TARGET_DIR:-target}/release/ec-darts
fi
mkdir -p "$out"
names=()
for genotype in "$@"; do
  name=$(basename "${genotype%.*}")
  names+=("$name")
  if [ "${genotype#random-}" != "$genotype" ]; then
    "$program" genotype random --seed "${genotype#random-}" >"$out/$name.txt"
    genotype=$out/$name.txt
  fi
  # shellcheck disable=SC2086
  "$program" retrain --device flex --genotype "$genotype" --config "$config" --data "$data" \
    --out "$out/$name" --threads "${THREADS:-2}" --resume=auto ${MORE:-}
done
python3 - "$program" "$config" "$out" "${names[@]}" <<'PYTHON'
import json, subprocess, sys
program, config, out, *names = sys.argv[1:]
print("| genotype | parameters, M | test accuracy, % | training accuracy, % | minutes |")
print("| --- | --- | --- | --- | --- |")
for name in names:
    folder = f"{out}/{name}"
    last = [json.loads(line) for line in open(f"{folder}/metrics.jsonl")][-1]
    text = open(f"{folder}/config.toml").read()
    number = lambda key: next(line.split("=")[1].strip() for line in text.splitlines() if line.startswith(key + " "))
    cost = json.loads(subprocess.check_output([program, "cost", "--json", "--genotype", f"{folder}/genotype.json",
        "--network", "cifar", "--channels", number("init_channels"), "--cells", number("num_cells")]))
    seconds = sum(session.get("seconds", 0) for session in json.load(open(f"{folder}/sessions.json")))
    print(f"| {name} | {cost['parameters'] / 1e6:.3f} | {100 * last['valid_accuracy']:.2f} | {100 * last['train_accuracy']:.1f} | {seconds / 60:.1f} |")
PYTHON
