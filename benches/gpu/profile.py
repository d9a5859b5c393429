"""Time, traffic and speed by kernel, from the table of Nsight Compute that `profile.sh` writes.

    python3 benches/gpu/profile.py measured/profile.csv          by kernel
    python3 benches/gpu/profile.py measured/profile.csv shapes   by kernel and number of cubes and units
"""
import collections
import csv
import re
import sys

lines = [line for line in open(sys.argv[1]) if line.startswith('"')]
rows = list(csv.DictReader(lines))
if len(rows) < 2:
    sys.exit(f"{sys.argv[1]} has no kernels")
units, rows = rows[0], rows[1:]
scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


def value(row, column):
    text = row.get(column) or "0"
    return float(text.replace(",", "")) * scale.get(units.get(column, ""), 1)


groups = collections.defaultdict(list)
for row in rows:
    name = re.sub(r"_[0-9a-f]{8,}.*$", "", row["Kernel Name"])[:34]
    if len(sys.argv) > 2:
        name += f" {int(value(row, 'launch__grid_size'))}x{int(value(row, 'launch__block_size'))}"
    groups[name].append(row)
total = sum(value(row, "gpu__time_duration.sum") for row in rows)
print(f"{len(rows)} launches, {1e3 * total:.2f} ms")
print("| kernel | launches | ms | share | GB of memory | GB/s | GB of L2 | TFLOP/s of FMA | instructions/FMA | registers | warps % |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
order = sorted(groups.items(), key=lambda item: -sum(value(row, "gpu__time_duration.sum") for row in item[1]))
for name, of in order[: 60 if len(sys.argv) > 2 else 40]:
    add = lambda column: sum(value(row, column) for row in of)
    time, fma = add("gpu__time_duration.sum"), add("smsp__sass_thread_inst_executed_op_ffma_pred_on.sum")
    most = max(value(row, "launch__registers_per_thread") for row in of)
    warps = sum(
        value(row, "sm__warps_active.avg.pct_of_peak_sustained_active") * value(row, "gpu__time_duration.sum") for row in of
    ) / max(time, 1e-12)
    dram, l2 = add("dram__bytes.sum"), add("lts__t_bytes.sum")
    per = 32 * add("smsp__inst_executed.sum") / fma if fma else 0
    print(
        f"| {name} | {len(of)} | {1e3 * time:.3f} | {100 * time / total:.1f} % | {dram / 1e9:.2f} | {dram / time / 1e9:.0f} "
        f"| {l2 / 1e9:.2f} | {2 * fma / time / 1e12:.2f} | {per:.1f} | {most:.0f} | {warps:.0f} |"
    )
