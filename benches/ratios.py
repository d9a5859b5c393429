"""Prints a table of ratios from the lines of time_step and search_step.py: the time of each implementation relative to ours.

    python3 benches/ratios.py LINES
"""

import collections
import json
import statistics
import sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    if line.startswith("{"):
        row = json.loads(line)
        rows[row["mode"]].append(row)
medians = {mode: statistics.median(row["median_s"] for row in group) for mode, group in rows.items()}
ours = [median for mode, median in medians.items() if mode.startswith("ec-darts")]
print("| way | median s | fastest to slowest s | first s | peak MiB | times ours |")
print("| --- | --- | --- | --- | --- | --- |")
for mode, group in rows.items():
    low, high = min(row["fastest_s"] for row in group), max(row["slowest_s"] for row in group)
    # A short step needs more decimals.
    digits = 2 if medians[mode] >= 1 else 4
    first = max(row["first_s"] for row in group)
    peaks = [row["peak_mib"] for row in group if row["peak_mib"] is not None]
    times = f"{medians[mode] / min(ours):.1f}" if ours else ""
    print(
        f"| {mode} | {medians[mode]:.{digits}f} | {low:.{digits}f} to {high:.{digits}f} | {first:.1f} "
        f"| {max(peaks, default='')} | {times} |"
    )
