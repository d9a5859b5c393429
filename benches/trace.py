#!/usr/bin/env python3
"""Draws some steps of a trace (`ec-darts ... --trace FILE`) as SVG, and sums up their times.

    python3 benches/trace.py TRACE.json OUT.svg [--first 20] [--steps 10]

The picture has one band per thread and one row per depth of spans, as in ui.perfetto.dev.
"""

import argparse
import json
from collections import defaultdict

WIDTH, ROW, LEFT = 1200, 20, 110
COLOURS = {
    "step": "#cfd6de", "phase": "#e6e9ed", "epoch": "#eff1f4", "run": "#f6f7f9",
    "alpha step": "#b9d7ee", "weight step": "#c8e6d4", "measure": "#f3ddb5",
    "forward": "#56b4e9", "backward": "#0072b2", "optimizer": "#8f3f8a",
    "wait for batch": "#d55e00", "prepare batch": "#f0a35e", "decode": "#f7cfa6",
    "read figures": "#f0e442", "checkpoint": "#b0b7bf",
}


def spans(path):
    """(thread, depth, name, begin, end) in microseconds, and the threads' names."""
    found, names, open_spans = [], {}, defaultdict(list)
    for event in json.load(open(path)):
        thread = event.get("tid")
        if event["ph"] == "M" and event["name"] == "thread_name":
            names[thread] = event["args"]["name"]
        elif event["ph"] == "B":
            open_spans[thread].append((event["name"], event["ts"]))
        elif event["ph"] == "E":
            name, begin = open_spans[thread].pop()
            found.append((thread, len(open_spans[thread]), name, begin, event["ts"]))
    return found, names


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("trace")
    arguments.add_argument("out")
    arguments.add_argument("--first", type=int, default=20)
    arguments.add_argument("--steps", type=int, default=10)
    arguments = arguments.parse_args()
    all_spans, names = spans(arguments.trace)
    steps = sorted((span for span in all_spans if span[2] == "step"), key=lambda span: span[3])
    steps = steps[arguments.first : arguments.first + arguments.steps]
    begin, end = steps[0][3], steps[-1][4]
    shown = [span for span in all_spans if span[4] > begin and span[3] < end]
    threads = sorted({span[0] for span in shown}, key=lambda thread: (thread != steps[0][0], thread))
    body, y = [], 30
    scale = (WIDTH - LEFT - 10) / (end - begin)
    for thread in threads:
        rows = [span for span in shown if span[0] == thread]
        depths = 1 + max(span[1] for span in rows)
        name = names.get(thread, f"thread {thread}").split("ThreadId")[0]
        body.append(f'<text x="6" y="{y + 14}" font-weight="bold">{name or "thread"}</text>')
        for _, depth, name, start, stop in rows:
            x = LEFT + (max(start, begin) - begin) * scale
            width = max((min(stop, end) - max(start, begin)) * scale, 0.4)
            top, colour = y + depth * ROW, COLOURS.get(name, "#999999")
            title = f"{name}: {(stop - start) / 1e3:.2f} ms"
            body.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 2}" fill="{colour}">'
                f"<title>{title}</title></rect>"
            )
            if width > 7 * len(name):
                ink = "#ffffff" if colour in ("#0072b2", "#8f3f8a", "#d55e00") else "#1f2328"
                body.append(f'<text x="{x + 3:.1f}" y="{top + 13}" fill="{ink}">{name}</text>')
        y += depths * ROW + 12
    title = f"{len(steps)} steps in {(end - begin) / 1e3:.1f} ms, {WIDTH - LEFT - 10} pixels wide"
    open(arguments.out, "w").write(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="6" y="18">{title}</text>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
    print(f"{len(steps)} steps, {(end - begin) / 1e3 / len(steps):.2f} ms each")
    total = sum(stop - start for _, _, _, start, stop in steps)
    times = defaultdict(float)
    for thread, _, name, start, stop in shown:
        if thread == steps[0][0] and start >= begin and stop <= end:
            times[name] += stop - start
    for name, time in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {name:16} {time / 1e3 / len(steps):8.2f} ms a step  {100 * time / total:5.1f} %")


if __name__ == "__main__":
    main()
