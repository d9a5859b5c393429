#!/usr/bin/env bash
# Runs every rule of the family in a small search of three epochs on CIFAR-10, kills it at random moments, resumes it to
# the same bytes, and retrains its genotype for a short time. A table comes last.
#
#     benches/rules.sh DATA [PRESET...]      DATA holds cifar-10-batches-bin; all presets of the family without PRESET
#     benches/rules.sh DATA proxyless_cpu+rule.sampling=gate-pairs           a preset with other settings
#     KILLS=3 DEVICE=flex PROGRAM=target/release/ec-darts benches/rules.sh DATA gdas_cpu
#
# The network has 8 channels and 3 cells on 16x16 maps, an epoch 12 steps. This shows that a rule works to its
# end, not the quality of its genotypes.
set -uo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: benches/rules.sh DATA [PRESET...]}
shift
presets=("$@")
[ ${#presets[@]} -gt 0 ] || presets=(search_cifar10_cpu darts_cpu gdas_cpu snas_cpu fair_darts_cpu pc_darts_cpu
  pdarts_cpu sdarts_rs_cpu sdarts_adv_cpu proxyless_cpu darts_plus_cpu robust_darts_cpu beta_darts_cpu
  darts_minus_cpu drnas_cpu mobile_cpu proxyless_cpu+rule.sampling=gate-pairs
  mobile_cpu+rule.cost_form=product nas_bench_201_darts_cpu nas_bench_201_gdas_cpu nas_bench_201_cen_cpu)
program=$(realpath "${PROGRAM:-target/release/ec-darts}")
device=${DEVICE:-flex}
kills=${KILLS:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
small=(network.init_channels=8 network.num_cells=3 search.epochs=3 search.steps_per_epoch=12
  search.batch_size=32 search.measured_images=64 data.train_images=2000 run.checkpoint_steps=4)
sets=()
for set in "${small[@]}"; do sets+=(--set "$set"); done

# PRESET OUT ARGUMENTS...
search() {
  local preset=$1 out=$2 changes change
  shift 2
  local own=("${sets[@]}")
  IFS=+ read -r preset changes <<<"$preset"
  for change in ${changes//+/ }; do own+=(--set "$change"); done
  # Two stages of cells, and a width that six and four divide.
  [ "$preset" != drnas_cpu ] || own+=(--set stages.cells=[3,3] --set network.init_channels=12)
  # Settings of a preset that count epochs are shortened with them.
  grep -q frozen_epochs "crates/ec-darts/presets/$preset.toml" "crates/ec-darts/presets/${preset%_cpu}.toml" 2>/dev/null &&
    own+=(--set alpha.frozen_epochs=1)
  # The program replaces the shell, so that a kill hits the program.
  exec "$program" search --quiet --config "$preset" --data "$data" --device "$device" --out "$out" "${own[@]}" "$@"
}
newest() { ls "$1"/checkpoints/*.safetensors | sort | tail -n 1; }

failed=0
rows=()
for preset in "${presets[@]}"; do
  began=$SECONDS
  whole=$work/$preset-whole broken=$work/$preset-broken
  state="same bytes" hit=0
  if ! (search "$preset" "$whole") >"$work/log" 2>&1; then
    state="search failed: $(tail -n 1 "$work/log")"
  else
    took=$((SECONDS - began))
    for ((kill = 1; kill <= kills; kill++)); do
      search "$preset" "$broken" --resume=auto >"$work/log" 2>&1 &
      pid=$!
      sleep "$(awk -v most="$took" -v seed="$RANDOM" 'BEGIN { srand(seed); print 0.3 + rand() * (most > 2 ? most - 1 : 1) }')"
      kill -KILL "$pid" 2>/dev/null && hit=$((hit + 1))
      wait "$pid" 2>/dev/null
    done
    (search "$preset" "$broken" --resume=auto) >"$work/log" 2>&1 || state="resuming failed: $(tail -n 1 "$work/log")"
    cmp -s "$(newest "$whole")" "$(newest "$broken")" || state="other bytes"
  fi
  retrained=no retrain=retrain_cifar10_cpu
  case $preset in nas_bench_201_*) retrain=retrain_nas_bench_201_cpu ;; esac
  if "$program" retrain --quiet --config "$retrain" --genotype "$whole/genotype.json" --data "$data" \
    --device "$device" --out "$work/$preset-net" --set network.init_channels=4 --set network.num_cells=3 \
    --set retrain.epochs=1 --set retrain.batch_size=32 --set data.train_images=200 --set data.cutout=none \
    >"$work/log" 2>&1; then
    retrained=yes
  else
    retrained="no: $(tail -n 1 "$work/log")"
  fi
  [ "$state" = "same bytes" ] && [ "$retrained" = yes ] || failed=1
  row=$(printf '| %-42s | %3d s | %d of %d | %s | %s |' "$preset" $((SECONDS - began)) "$hit" "$kills" "$state" "$retrained")
  echo "$row" >&2
  rows+=("$row")
done
printf '| rule | time | kills that hit | end | retrained |\n| --- | --- | --- | --- | --- |\n'
printf '%s\n' "${rows[@]}"
exit $failed
