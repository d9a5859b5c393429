"""Launches by kernel, with their times where there are some: from the lines of driver/times.c or driver/null.c.

    python3 benches/gpu/times.py times.txt            by kernel
    python3 benches/gpu/times.py times.txt shapes     by kernel, cubes and units
"""
import collections
import re
import sys

counts, times = collections.Counter(), collections.Counter()
for line in open(sys.argv[1]):
    name, *cubes, units, last = line.split()
    name = re.sub(r"_[0-9a-f]{8}$", "", name)
    if len(sys.argv) > 2:
        name += f" {'x'.join(cubes)} of {units}"
    counts[name] += 1
    # The last column of the null driver is the shared memory, a whole number.
    times[name] += float(last) if "." in last else 0.0
total = sum(times.values())
print(f"{sum(counts.values())} launches" + (f", {total:.2f} ms" if total else ""))
for name, _ in (times if total else counts).most_common(60):
    share = f"{times[name]:9.3f} ms {100 * times[name] / total:5.1f} %" if total else ""
    print(f"{counts[name]:6} {share} {name}")
