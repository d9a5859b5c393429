#!/usr/bin/env bash
# Measures the growth of the search step's cost with batch, channels, cells, image size, threads. Prints a table.
#
#     benches/scaling.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --workspace --features "${FEATURES:-flex}" --example time_step
program=${CARGO_TARGET_DIR:-target}/release/examples/time_step
echo "| batch | channels | cells | image | threads | median s | fastest to slowest s | peak MiB |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
row() { # batch channels cells size threads
  "$program" --samples "${SAMPLES:-3}" --batch "$1" --channels "$2" --cells "$3" --size "$4" --threads "$5" |
    python3 -c '
import json, sys
row = json.loads(sys.stdin.readline())
keys = ("median_s", "fastest_s", "slowest_s", "peak_mib")
print("| " + " | ".join(sys.argv[1:]) + " | %.2f | %.2f to %.2f | %d |" % tuple(row[k] for k in keys))' "$@"
}
for batch in 16 32 64 96; do row $batch 16 8 32 2; done
for channels in 8 32; do row 64 $channels 8 32 2; done
for cells in 5 14; do row 64 16 $cells 32 2; done
for size in 16 64; do row 64 16 8 $size 2; done
row 64 16 8 32 1
