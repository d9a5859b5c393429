"""One search or retraining step in PyTorch: the networks and the steps of examples/time_step.rs, for comparison.

    python3 benches/pytorch/search_step.py --mode channels-last --step first
    python3 benches/pytorch/search_step.py --device cuda --mode eager,graph,graph-tf32 --step retrain

Written for this project from the method's description (docs/method.md); prints one JSON line a mode. `graph` is the
whole step as one CUDA graph, so that its launches cost the CPU nothing; `bf16` is autocast, channels-last. On a GPU
steps are timed in blocks, and the device is waited for at the end of each.
"""

import argparse
import contextlib
import gc
import json
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from networks import norm, Supernet, cross_edge, EvaluationNetwork


class Run:
    """A network, its optimizer and batches; `step` does one step."""

    def __init__(self, arguments, network, layout, amp):
        self.amp = amp
        self.device = arguments.device
        self.network = network.to(self.device).to(memory_format=layout)
        self.weights = list(self.network.parameters())
        self.sgd = torch.optim.SGD(self.weights, 0.025, 0.9, weight_decay=3e-4)
        shape = (arguments.batch, 3, arguments.size, arguments.size)
        images = lambda: torch.randn(shape, device=self.device).contiguous(memory_format=layout)
        self.images = [images() for _ in range(2)]
        self.labels = torch.arange(arguments.batch, device=self.device) % 10

    def precision(self):
        return torch.autocast(self.device, torch.bfloat16) if self.amp else contextlib.nullcontext()

    def step_weights(self, loss):
        self.sgd.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.sgd.step()


class Search(Run):
    def __init__(self, arguments, layout, amp):
        torch.manual_seed(0)
        super().__init__(arguments, Supernet(arguments.channels, arguments.cells), layout, amp)
        draw = lambda: 1e-3 * torch.randn(14, 8, device=self.device)
        self.alpha = [draw().requires_grad_() for _ in range(2)]
        on_gpu = {"capturable": True} if self.device == "cuda" else {}
        self.adam = torch.optim.Adam(self.alpha, 3e-4, (0.5, 0.999), weight_decay=1e-3, **on_gpu)
        self.second = arguments.step == "second"

    def loss(self, half, mixing=None):
        mixing = mixing or [cross_edge(alpha) for alpha in self.alpha]
        with self.precision():
            return F.cross_entropy(self.network(self.images[half], *mixing), self.labels)

    def alpha_first(self):
        gradients = torch.autograd.grad(self.loss(1), self.alpha)
        self.step_alpha(gradients)

    def step_alpha(self, gradients):
        for alpha, gradient in zip(self.alpha, gradients):
            alpha.grad = gradient
        self.adam.step()

    def alpha_second(self, rate=0.025):
        saved = [weight.detach().clone() for weight in self.weights]

        @torch.no_grad()
        def move(terms, factor):
            moved = torch._foreach_add(saved, torch._foreach_mul(terms, factor))
            torch._foreach_copy_(self.weights, moved)

        gradients = torch.autograd.grad(self.loss(0), self.weights)
        move(torch._foreach_add(gradients, saved, alpha=3e-4), -rate)
        both = torch.autograd.grad(self.loss(1), self.alpha + self.weights)
        direct, direction = both[:2], both[2:]
        epsilon = 0.01 / torch.stack(torch._foreach_norm(direction)).norm()
        sides = []
        for radius in (epsilon, -epsilon):
            move(direction, radius)
            sides.append(torch.autograd.grad(self.loss(0), self.alpha))
        move(direction, 0.0)
        implicit = [(p - m) / (2 * epsilon) for p, m in zip(*sides)]
        self.step_alpha([d - rate * i for d, i in zip(direct, implicit)])

    def step(self):
        self.alpha_second() if self.second else self.alpha_first()
        mixing = [cross_edge(alpha).detach() for alpha in self.alpha]
        self.step_weights(lambda: self.loss(0, mixing))


class Retraining(Run):
    """The paper's: drop path at its end, 0.2, and an auxiliary loss of weight 0.4."""

    def __init__(self, arguments, layout, amp):
        torch.manual_seed(0)
        network = EvaluationNetwork(arguments.channels, arguments.cells, arguments.size)
        super().__init__(arguments, network, layout, amp)

    def loss(self):
        with self.precision():
            logits, side = self.network(self.images[0])
            return F.cross_entropy(logits, self.labels) + 0.4 * F.cross_entropy(side, self.labels)

    def step(self):
        self.step_weights(self.loss)


MODES = {
    "eager": {},
    "channels-last": {"last": True},
    "compiled": {"last": True, "compiled": True},
    "tf32": {"tf32": True},
    "bf16": {"last": True, "amp": True},
    "graph": {"graph": True},
    "graph-channels-last": {"graph": True, "last": True},
    "graph-tf32": {"graph": True, "tf32": True},
    "graph-bf16": {"graph": True, "last": True, "amp": True},
}


def captured(step):
    """The step as one CUDA graph, after what is allocated and chosen in the first ones."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(mode, arguments, last=False, compiled=False, tf32=False, amp=False, graph=False):
    on_gpu = arguments.device == "cuda"
    if graph and not on_gpu:
        raise ValueError("a graph needs --device cuda")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    layout = torch.channels_last if last else torch.contiguous_format
    run = (Retraining if arguments.step == "retrain" else Search)(arguments, layout, amp)
    if compiled:
        # The whole network takes many minutes to compile; its parts are alike.
        torch._dynamo.config.cache_size_limit = 64
        for cell in run.network.cells:
            for part in cell.edges if hasattr(cell, "edges") else cell.operations:
                part.compile()
    step = captured(run.step) if graph else run.step
    step()
    wait()
    first = time.perf_counter() - start
    for _ in range(3 if on_gpu else 0):
        step()
    wait()
    block = arguments.steps_per_wait or (20 if on_gpu else 1)
    seconds = []
    for _ in range(arguments.samples):
        start = time.perf_counter()
        for _ in range(block):
            step()
        wait()
        seconds.append((time.perf_counter() - start) / block)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({
        "mode": f"pytorch {torch.__version__} {mode}",
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "step": arguments.step,
        "first_s": first,
        "median_s": statistics.median(seconds),
        "fastest_s": min(seconds),
        "slowest_s": max(seconds),
        "steps": block * arguments.samples,
        "steps_per_wait": block,
        "peak_mib": torch.cuda.max_memory_allocated() >> 20 if on_gpu else resident,
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", default="eager", help=f"one or more of {','.join(MODES)}")
    parser.add_argument("--step", choices=["first", "second", "retrain"], default="first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=3, help="timed blocks of steps")
    parser.add_argument("--steps-per-wait", type=int, help="default: 1 on the CPU, else 20")
    parser.add_argument("--batch", type=int, help="default: 64, of a retraining 96")
    parser.add_argument("--channels", type=int, help="default: 16, of a retraining 36")
    parser.add_argument("--cells", type=int, help="default: 8, of a retraining 20")
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    retrain = arguments.step == "retrain"
    arguments.batch = arguments.batch or (96 if retrain else 64)
    arguments.channels = arguments.channels or (36 if retrain else 16)
    arguments.cells = arguments.cells or (20 if retrain else 8)
    modes = arguments.mode.split(",")
    for mode in modes:
        if mode not in MODES:
            parser.error(f"--mode {mode} is none of {', '.join(MODES)}")
    torch.set_num_threads(arguments.threads)
    failed = False
    for mode in modes:
        try:
            measure(mode, arguments, **MODES[mode])
        except Exception as error:  # The other modes are worth their numbers.
            print(f"pytorch {mode} failed: {error!r}", file=sys.stderr, flush=True)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
