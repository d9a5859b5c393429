"""One search step in PyTorch: the network and the step of benches/search_step.rs, for comparison.

    python3 benches/pytorch/search_step.py --mode channels-last --step first

Written for this project from the method's description (docs/method.md); prints one JSON line.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels, affine=False):
    return nn.BatchNorm2d(channels, affine=affine)


def relu_conv_norm(source, target):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(source, target, 1, bias=False), norm(target))


class FactorizedReduce(nn.Module):
    def __init__(self, source, target):
        super().__init__()
        self.conv1 = nn.Conv2d(source, target // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(source, target // 2, 1, 2, bias=False)
        self.bn = norm(target)

    def forward(self, x):
        x = F.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def separable(channels, kernel, stride, dilation):
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), norm(channels)]


def candidates(channels, stride):
    skip = nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    max_pool = nn.MaxPool2d(3, stride, 1)
    avg_pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    blocks = lambda kernel: separable(channels, kernel, stride, 1) + separable(channels, kernel, 1, 1)
    return nn.ModuleList([
        nn.Sequential(max_pool, norm(channels)),
        nn.Sequential(avg_pool, norm(channels)),
        skip,
        nn.Sequential(*blocks(3)),
        nn.Sequential(*blocks(5)),
        nn.Sequential(*separable(channels, 3, stride, 2)),
        nn.Sequential(*separable(channels, 5, stride, 2)),
    ])


class MixedOperation(nn.Module):
    """The candidates besides `none`, whose column 0 adds nothing."""

    def __init__(self, channels, stride):
        super().__init__()
        self.operations = candidates(channels, stride)

    def forward(self, x, weights):
        return sum(w * operation(x) for w, operation in zip(weights[1:], self.operations))


class Cell(nn.Module):
    def __init__(self, inputs, channels, reduces, after_reduction):
        super().__init__()
        older, newer = inputs
        preprocess = FactorizedReduce if after_reduction else relu_conv_norm
        self.preprocess0 = preprocess(older, channels)
        self.preprocess1 = relu_conv_norm(newer, channels)
        self.edges = nn.ModuleList(
            MixedOperation(channels, 2 if reduces and source < 2 else 1)
            for node in range(4)
            for source in range(2 + node)
        )

    def forward(self, older, newer, weights):
        states = [self.preprocess0(older), self.preprocess1(newer)]
        offset = 0
        for node in range(4):
            terms = [
                self.edges[offset + i](state, weights[offset + i]) for i, state in enumerate(states)
            ]
            offset += len(states)
            states.append(sum(terms))
        return torch.cat(states[2:], 1)


class Supernet(nn.Module):
    def __init__(self, channels, cells, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), norm(3 * channels, affine=True)
        )
        self.cells = nn.ModuleList()
        self.reduces = [i in (cells // 3, 2 * cells // 3) for i in range(cells)]
        inputs, after = (3 * channels, 3 * channels), False
        for reduces in self.reduces:
            channels *= 2 if reduces else 1
            self.cells.append(Cell(inputs, channels, reduces, after))
            inputs, after = (inputs[1], 4 * channels), reduces
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, images, normal, reduction):
        older = newer = self.stem(images)
        for cell, reduces in zip(self.cells, self.reduces):
            older, newer = newer, cell(older, newer, reduction if reduces else normal)
        return self.classifier(newer.mean((2, 3)))


def cross_edge(alpha):
    """Cross-Edge Normalization: the edges that enter a node compete, each primitive for itself."""
    return torch.cat([node.softmax(0) for node in alpha.split([2, 3, 4, 5])])


class Search:
    def __init__(self, arguments, layout):
        torch.manual_seed(0)
        self.network = Supernet(arguments.channels, arguments.cells).to(memory_format=layout)
        self.alpha = [(1e-3 * torch.randn(14, 8)).requires_grad_() for _ in range(2)]
        self.adam = torch.optim.Adam(self.alpha, 3e-4, (0.5, 0.999), weight_decay=1e-3)
        self.weights = list(self.network.parameters())
        self.sgd = torch.optim.SGD(self.weights, 0.025, 0.9, weight_decay=3e-4)
        images = lambda: torch.randn(arguments.batch, 3, arguments.size, arguments.size)
        self.images = [images().to(memory_format=layout) for _ in range(2)]
        self.labels = torch.arange(arguments.batch) % 10

    def loss(self, half):
        mixing = [cross_edge(alpha) for alpha in self.alpha]
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
        move = lambda terms: [w.data.copy_(s + t) for w, s, t in zip(self.weights, saved, terms)]
        gradients = torch.autograd.grad(self.loss(0), self.weights)
        steps = []
        for weight, gradient in zip(saved, gradients):
            steps.append(-rate * (gradient + 3e-4 * weight))
        move(steps)
        both = torch.autograd.grad(self.loss(1), self.alpha + self.weights)
        direct, direction = both[:2], both[2:]
        epsilon = 0.01 / torch.cat([d.flatten() for d in direction]).norm()
        sides = []
        for radius in (epsilon, -epsilon):
            move([radius * d for d in direction])
            sides.append(torch.autograd.grad(self.loss(0), self.alpha))
        move([0.0 * d for d in direction])
        implicit = [(p - m) / (2 * epsilon) for p, m in zip(*sides)]
        self.step_alpha([d - rate * i for d, i in zip(direct, implicit)])

    def weight_step(self):
        self.sgd.zero_grad()
        mixing = [cross_edge(alpha).detach() for alpha in self.alpha]
        F.cross_entropy(self.network(self.images[0], *mixing), self.labels).backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.sgd.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["eager", "channels-last", "compiled"], default="eager")
    parser.add_argument("--step", choices=["first", "second"], default="first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layout = torch.contiguous_format if arguments.mode == "eager" else torch.channels_last
    search = Search(arguments, layout)
    if arguments.mode == "compiled":
        # The whole network takes many minutes to compile; its edges are alike.
        torch._dynamo.config.cache_size_limit = 64
        for cell in search.network.cells:
            for edge in cell.edges:
                edge.compile()
    alpha_step = search.alpha_first if arguments.step == "first" else search.alpha_second
    seconds = []
    for sample in range(1 + arguments.samples):
        start = time.perf_counter()
        alpha_step()
        search.weight_step()
        if sample > 0:  # The first one warms up, and compiles.
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({
        "mode": f"pytorch {torch.__version__} {arguments.mode}",
        "step": arguments.step,
        "median_s": statistics.median(seconds),
        "fastest_s": min(seconds),
        "slowest_s": max(seconds),
        "peak_mib": peak,
    }))


if __name__ == "__main__":
    main()
