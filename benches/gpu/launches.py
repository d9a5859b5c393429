"""Launches by kernel and step, from CubeCL's log of a run of time_step.

    printf '[profiling]\nlogger = { level = "basic", file = "launches.log" }\n' >cubecl.toml
    target/release/examples/time_step --device wgpu --batch 2 --size 8 --samples 4 --steps-per-wait 4
    python3 benches/gpu/launches.py launches.log

The number of steps is that of the classifier's launches, two a step of the first order. Other than the times, the
counts do not depend on batch and size.
"""
import collections
import re
import sys

counts = collections.Counter()
kernels = set()
for line in open(sys.argv[1]):
    if found := re.match(r"\| [\d.]+\S+ *\| (.*)", line):
        kernels.add(found[1].strip())
        counts[re.sub(r"_[0-9a-f]{8}$", "", found[1].strip())] += 1
steps = counts["Logits"] / 2
if not steps:
    sys.exit(f"{sys.argv[1]} has no launches of a step")
ours = ("Blocks Moments Nodes Observe Given Parts Normalizations MixingGradients Products Sources PointwiseGradients "
        "DepthwiseGradients AddParts Clear Means Logits MapGradient WeightGradients Losses LossGradients Squares Root Sgd "
        "Adam Softmax SoftmaxBackward Pick").split()
print(f"{sum(counts.values()) / steps:.0f} launches a step, {steps:.0f} steps")
print("| kernel | launches a step |\n| --- | --- |")
for kernel, count in counts.most_common():
    if kernel in ours:
        print(f"| {kernel} | {count / steps:.0f} |")
others = sum(count for kernel, count in counts.items() if kernel not in ours)
print(f"| of Burn | {others / steps:.0f} |")
print(f"\n{len(kernels)} kernels compiled")
