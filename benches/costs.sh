#!/usr/bin/env bash
# A cost-aware search on CIFAR-10 under several targets for multiply-adds. Prints the cost of each epoch's genotype.
#
#     benches/costs.sh DATA [TARGET...]      DATA holds cifar-10-batches-bin; targets none 13e6 10e6 7e6 without TARGET
#     PROGRAM=target/release/ec-darts benches/costs.sh DATA none 10e6
#
# The rule is DARTS' (darts_cpu) in a network of 4 channels and 3 cells, six epochs of 60 steps with a batch of 32.
# Costs are those of the network that retrain_cifar10_cpu trains: 16 channels, 8 cells, maps of 16x16.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: benches/costs.sh DATA [TARGET...]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(none 13e6 10e6 7e6)
program=$(realpath "${PROGRAM:-target/release/ec-darts}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
small=(network.init_channels=4 network.num_cells=3 search.epochs=6 search.steps_per_epoch=60
  search.batch_size=32 search.measured_images=256
  rule.cost=multiply-adds rule.cost_channels=16 rule.cost_cells=8)
printf '| target | multiply-adds of the genotype of each epoch, millions |\n| --- | --- |\n'
for target in "${targets[@]}"; do
  # Without a target the cost is reported and has no weight.
  own=(rule.cost_target="$target")
  [ "$target" = none ] && own=(rule.cost_weight=0)
  sets=()
  for set in "${small[@]}" "${own[@]}"; do sets+=(--set "$set"); done
  "$program" search --quiet --config darts_cpu --data "$data" --out "$work/$target" "${sets[@]}" >"$work/log" 2>&1 ||
    { tail -n 3 "$work/log" >&2; exit 1; }
  costs=$(grep -o '"cost":[0-9.]*' "$work/$target/metrics.jsonl" | cut -d: -f2 |
    awk '{ printf("%s%.2f", (NR > 1 ? ", " : ""), $1 / 1e6) }')
  echo "| $target | $costs |"
done
