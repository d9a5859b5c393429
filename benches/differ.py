"""Differences of two checkpoints: the relative difference of every tensor, the largest first.

    pip install numpy safetensors
    python3 benches/differ.py A.safetensors B.safetensors
    python3 benches/differ.py A.safetensors B.safetensors alpha.     only names that begin so
"""

import sys

import numpy
from safetensors.numpy import load_file

one, other = (load_file(path) for path in sys.argv[1:3])
begin = sys.argv[3] if len(sys.argv) > 3 else ""
rows = []
for name, values in one.items():
    if name.startswith(begin) and values.dtype.kind == "f":
        norm = numpy.linalg.norm(values.astype("f8"))
        difference = numpy.linalg.norm(values.astype("f8") - other[name])
        rows.append((difference / max(norm, 1e-30), name))
rows.sort(reverse=True)
for relative, name in rows[:10]:
    print(f"{relative:.1e} {name}")
print(f"{rows[len(rows) // 2][0]:.1e} the middle one of {len(rows)}")
