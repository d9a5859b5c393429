"""The networks of a search and of a retraining in PyTorch, for search_step.py."""

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels, affine=False):
    return nn.BatchNorm2d(channels, affine=affine)


def relu_conv_norm(source, target, affine=False):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(source, target, 1, bias=False), norm(target, affine))


class FactorizedReduce(nn.Module):
    def __init__(self, source, target, affine=False):
        super().__init__()
        self.conv1 = nn.Conv2d(source, target // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(source, target // 2, 1, 2, bias=False)
        self.bn = norm(target, affine)

    def forward(self, x):
        x = F.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def separable(channels, kernel, stride, dilation, affine=False):
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), norm(channels, affine)]


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


# DARTS_V2, as quark0/darts states it: operation and the state that it reads, two a node.
NORMAL = [("sep3", 0), ("sep3", 1), ("sep3", 0), ("sep3", 1), ("sep3", 1), ("skip", 0), ("skip", 0), ("dil3", 2)]
REDUCTION = [("max", 0), ("max", 1), ("skip", 2), ("max", 1), ("max", 0), ("skip", 2), ("skip", 2), ("max", 1)]


def operation(name, channels, stride):
    if name == "max":
        return nn.MaxPool2d(3, stride, 1)
    if name == "skip":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, True)
    if name == "dil3":
        return nn.Sequential(*separable(channels, 3, stride, 2, True))
    return nn.Sequential(
        *separable(channels, 3, stride, 1, True), *separable(channels, 3, 1, 1, True)
    )


class DiscreteCell(nn.Module):
    def __init__(self, inputs, channels, reduces, after_reduction):
        super().__init__()
        older, newer = inputs
        preprocess = FactorizedReduce if after_reduction else relu_conv_norm
        self.preprocess0 = preprocess(older, channels, True)
        self.preprocess1 = relu_conv_norm(newer, channels, True)
        self.picks = REDUCTION if reduces else NORMAL
        self.operations = nn.ModuleList(
            operation(name, channels, 2 if reduces and source < 2 else 1)
            for name, source in self.picks
        )

    def forward(self, older, newer, drop_prob):
        states = [self.preprocess0(older), self.preprocess1(newer)]
        for node in range(4):
            terms = []
            for place in (2 * node, 2 * node + 1):
                term = self.operations[place](states[self.picks[place][1]])
                if not isinstance(self.operations[place], nn.Identity):
                    keep = term.new_empty(term.shape[0], 1, 1, 1).bernoulli_(1 - drop_prob)
                    term = term * (keep / (1 - drop_prob))
                terms.append(term)
            states.append(sum(terms))
        return torch.cat(states[2:], 1)


class EvaluationNetwork(nn.Module):
    def __init__(self, channels, cells, size, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), norm(3 * channels, True)
        )
        self.cells = nn.ModuleList()
        self.head_position = 2 * cells // 3
        inputs, after = (3 * channels, 3 * channels), False
        for position in range(cells):
            reduces = position in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduces else 1
            self.cells.append(DiscreteCell(inputs, channels, reduces, after))
            inputs, after = (inputs[1], 4 * channels), reduces
        side = -(-size // 4)
        window = min(max(-(-side // 2), 5), side - 1)
        self.head = nn.Sequential(
            nn.ReLU(), nn.AvgPool2d(window, side - window, count_include_pad=False),
            nn.Conv2d(4 * channels, 128, 1, bias=False), norm(128, True), nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False), norm(768, True), nn.ReLU(),
            nn.Flatten(), nn.Linear(768, classes),
        )
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, images, drop_prob=0.2):
        older = newer = self.stem(images)
        for position, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer, drop_prob)
            if position == self.head_position:
                side = self.head(newer)
        return self.classifier(newer.mean((2, 3))), side
