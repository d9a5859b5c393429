#!/usr/bin/env python3
"""The mean accuracy of the best of K genotypes of a study, chosen by one training seed and measured by the other.

    python3 benches/best_of.py RESULTS VARIANT K

RESULTS is the `results.json` of a study with two training seeds. The mean is over all sets of K genotypes and both
directions.
"""

import itertools
import json
import sys

results, variant, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
candidates = json.load(open(results))["candidates"]
pairs = [[one["accuracy"] for one in c["trainings"]] for c in candidates if c["variant"] == variant]
pairs = [pair for pair in pairs if len(pair) == 2]
if len(pairs) < size:
    sys.exit(f"{results}: {len(pairs)} genotypes of {variant} have two trainings, {size} are needed")
measured = [
    max(chosen, key=lambda pair: pair[seed])[1 - seed]
    for chosen in itertools.combinations(pairs, size)
    for seed in (0, 1)
]
print(f"{variant}: best of {size} among {len(pairs)}: {100 * sum(measured) / len(measured):.2f} %")
