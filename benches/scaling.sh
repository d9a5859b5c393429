#!/usr/bin/env bash
# How the search step's cost grows: batch, channels, cells, image size, threads. Prints a table.
#
#     benches/scaling.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --features "${FEATURES:-flex}" --example time_step
program=${CARGO_TARGET_DIR:-target}/release/examples/time_step
echo "| batch | channels | cells | image | threads | median s | fastest to slowest s | peak MiB |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
row() { # batch channels cells size threads
  "$program" --samples "${SAMPLES:-3}" --batch "$1" --channels "$2" --cells "$3" --size "$4" --threads "$5" |
    python3 -c '
import json, sys
r = json.loads(sys.stdin.readline())
print("| " + " | ".join(sys.argv[1:]), "|",
      f"{r[\"median_s\"]:.2f} | {r[\"fastest_s\"]:.2f} to {r[\"slowest_s\"]:.2f} | {r[\"peak_mib\"]} |")' "$@"
}
for batch in 16 32 64 96; do row $batch 16 8 32 2; done
for channels in 8 32; do row 64 $channels 8 32 2; done
for cells in 5 14; do row 64 16 $cells 32 2; done
for size in 16 64; do row 64 16 8 $size 2; done
row 64 16 8 32 1
