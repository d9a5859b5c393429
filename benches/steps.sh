#!/usr/bin/env bash
# The paper's search step beside that of another commit, and the steps of rules beside DARTS', as two tables.
#
#     benches/steps.sh COMMIT                 builds the examples of this tree and of COMMIT, in a temporary folder
#     PAIRS=10 BEFORE=PROGRAM NOW=FOLDER benches/steps.sh     a time_step and a folder of examples that are there
#
# The two programs take turns; each number is the median of two timed steps behind one that warms up.
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-10}
if [ -z "${BEFORE:-}" ]; then
  commit=${1:?usage: benches/steps.sh COMMIT}
  work=$(mktemp -d)
  trap 'git worktree remove --force "$work/tree" 2>/dev/null; rm -rf "$work"' EXIT
  git worktree add --quiet --detach "$work/tree" "$commit"
  (cd "$work/tree" && CARGO_TARGET_DIR="$work/target" cargo build --release --example time_step)
  BEFORE=$work/target/release/examples/time_step
fi
if [ -z "${NOW:-}" ]; then
  cargo build --release --example time_step --example time_rules
  NOW=target/release/examples
fi
step() { "$1" --samples 2 | sed -n 's/.*"median_s":\([0-9.e-]*\).*/\1/p'; }
for ((pair = 0; pair < pairs; pair++)); do
  echo "$(step "$BEFORE") $(step "$NOW/time_step")"
done | sort -g | awk '
  { before[NR] = $1; now[NR] = $2; ratio[NR] = $2 / $1 }
  function sort(all, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && all[j] < all[j - 1]; j--) { t = all[j]; all[j] = all[j - 1]; all[j - 1] = t }
  }
  function row(name, all, n, digits) {
    sort(all, n)
    middle = n % 2 ? all[(n + 1) / 2] : (all[n / 2] + all[n / 2 + 1]) / 2
    printf "| %s | %." digits "f | %." digits "f to %." digits "f |\n", name, middle, all[1], all[n]
  }
  END {
    print "| search step, " NR " pairs | median | least to most |"
    print "| --- | --- | --- |"
    row("before, s", before, NR, 2); row("now, s", now, NR, 2); row("now / before", ratio, NR, 3)
  }'
"$NOW/time_rules" ${RULES:-darts gdas proxyless pc_darts} --turns "${TURNS:-3}" --steps 5
