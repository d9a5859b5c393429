#!/usr/bin/env python3
"""The mean of alpha over several searches, as a run folder that `ec-darts genotype discretize` reads.

    python3 benches/mean_alpha.py OUT RUN...

Prints how far the searches agree: the intraclass correlation of one search's alpha over all edges and
operations, ICC(1, 1), for each kind of cell. Each RUN has the `metrics.jsonl` of a finished search;
`config.toml` is that of the first RUN that has one.
"""

import json
import pathlib
import shutil
import sys


def mean(values):
    return sum(values) / len(values)


def agreement(matrices):
    """ICC(1, 1) of the entries of several matrices (Shrout and Fleiss 1979)."""
    entries = [entry for rows in zip(*matrices) for entry in zip(*rows)]
    count, center = len(matrices), mean([mean(entry) for entry in entries])
    between = count * sum((mean(entry) - center) ** 2 for entry in entries) / (len(entries) - 1)
    squares = sum((value - mean(entry)) ** 2 for entry in entries for value in entry)
    within = squares / (len(entries) * (count - 1))
    return (between - within) / (between + (count - 1) * within)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    out, runs = pathlib.Path(sys.argv[1]), [pathlib.Path(run) for run in sys.argv[2:]]
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in runs]
    report = dict(last[0], epoch=1, best_epoch=1)
    for kind in ("normal", "reduction"):
        if not last[0]["alpha"].get(kind):
            continue  # a space with one kind of cell
        matrices = [each["alpha"][kind] for each in last]
        print(f"{kind} cell: agreement of alpha {agreement(matrices):.2f} over {len(runs)} searches")
        report["alpha"][kind] = [[mean(entry) for entry in zip(*rows)] for rows in zip(*matrices)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").write_text(json.dumps(report) + "\n")
    config = next((run / "config.toml" for run in runs if (run / "config.toml").exists()), None)
    if config:
        shutil.copyfile(config, out / "config.toml")


main()
