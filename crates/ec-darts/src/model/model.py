"""A network found by ec-darts, in PyTorch. Needs torch and safetensors.

    from model import load
    network, description = load("model.safetensors")  # in evaluation mode
    logits = network(normalize(images, description))  # images: [batch, 3, height, width] in [0, 1]

Tensors are named as in the public DARTS code (quark0/darts). A network in training mode returns the
logits of the auxiliary head too.
"""

import json

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional


def chain(*layers):
    return nn.Sequential(*layers)


def conv(from_channels, to_channels, kernel, stride=1, padding=0):
    return nn.Conv2d(from_channels, to_channels, kernel, stride, padding, bias=False)


class Chain(nn.Module):
    """Layers under the name `op`."""

    def __init__(self, *layers):
        super().__init__()
        self.op = chain(*layers)

    def forward(self, x):
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Halves the map with two 1x1 convolutions, the second one pixel down and right."""

    def __init__(self, from_channels, to_channels):
        super().__init__()
        self.conv_1 = conv(from_channels, to_channels // 2, 1, 2)
        self.conv_2 = conv(from_channels, to_channels // 2, 1, 2)
        self.bn = nn.BatchNorm2d(to_channels)

    def forward(self, x):
        x = torch.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def relu_conv_bn(from_channels, to_channels):
    return Chain(nn.ReLU(), conv(from_channels, to_channels, 1), nn.BatchNorm2d(to_channels))


def separable(channels, kernel, stride, dilation):
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )
    return nn.ReLU(), depthwise, conv(channels, channels, 1), nn.BatchNorm2d(channels)


def operation(primitive, channels, stride):
    if primitive == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if primitive == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if primitive == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    kernel = int(primitive[-1])
    if primitive.startswith("dil_conv"):
        return Chain(*separable(channels, kernel, stride, 2))
    if primitive.startswith("sep_conv"):
        first, second = separable(channels, kernel, stride, 1), separable(channels, kernel, 1, 1)
        return Chain(*first, *second)
    raise ValueError(f"unknown primitive {primitive}")


class Cell(nn.Module):
    def __init__(self, cell, older, newer, channels, reduces, after_reduction):
        super().__init__()
        preprocess = FactorizedReduce if after_reduction else relu_conv_bn
        self.preprocess0 = preprocess(older, channels)
        self.preprocess1 = relu_conv_bn(newer, channels)
        self.sources = [[pick["from"] for pick in node] for node in cell["nodes"]]
        self.concat = cell["concat"]
        self._ops = nn.ModuleList()
        for pick in (pick for node in cell["nodes"] for pick in node):
            stride = 2 if reduces and pick["from"] < 2 else 1
            self._ops.append(operation(pick["primitive"], channels, stride))

    def forward(self, older, newer):
        states = [self.preprocess0(older), self.preprocess1(newer)]
        operations = iter(self._ops)
        for sources in self.sources:
            states.append(sum(next(operations)(states[source]) for source in sources))
        return torch.cat([states[state] for state in self.concat], dim=1)


class AuxiliaryPool(nn.Module):
    """Average of 5x5 windows, larger on large maps, smaller on small ones: 2x2 remain."""

    def forward(self, x):
        sides = x.shape[2:]
        window = [min(max((side + 1) // 2, 5), side - 1) for side in sides]
        stride = [side - length for side, length in zip(sides, window)]
        return functional.avg_pool2d(x, window, stride)


class AuxiliaryHead(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.features = chain(
            nn.ReLU(),
            AuxiliaryPool(),
            conv(channels, 128, 1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            conv(128, 768, 2),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    def __init__(self, description):
        super().__init__()
        channels, num_cells = description["init_channels"], description["num_cells"]
        classes, genotype = description["num_classes"], description["genotype"]
        imagenet = description["stem"] == "imagenet"
        if imagenet:
            self.stem0 = chain(
                conv(3, channels // 2, 3, 2, 1),
                nn.BatchNorm2d(channels // 2),
                nn.ReLU(),
                conv(channels // 2, channels, 3, 2, 1),
                nn.BatchNorm2d(channels),
            )
            self.stem1 = chain(nn.ReLU(), conv(channels, channels, 3, 2, 1), nn.BatchNorm2d(channels))
            older = newer = channels
        else:
            stride = 2 if description["stem"] == "stride2" else 1
            older = newer = 3 * channels
            self.stem = chain(conv(3, newer, 3, stride, 1), nn.BatchNorm2d(newer))
        self.imagenet = imagenet
        self.cells = nn.ModuleList()
        self.head_position = 2 * num_cells // 3
        after_reduction = imagenet
        for position in range(num_cells):
            reduces = position in (num_cells // 3, self.head_position)
            channels *= 2 if reduces else 1
            cell = genotype["reduction" if reduces else "normal"]
            self.cells.append(Cell(cell, older, newer, channels, reduces, after_reduction))
            older, newer, after_reduction = newer, len(cell["concat"]) * channels, reduces
            if position == self.head_position:
                self.auxiliary_head = AuxiliaryHead(newer, classes)
        self.classifier = nn.Linear(newer, classes)

    def forward(self, images):
        older = self.stem0(images) if self.imagenet else self.stem(images)
        newer = self.stem1(older) if self.imagenet else older
        auxiliary = None
        for position, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer)
            if self.training and position == self.head_position:
                auxiliary = self.auxiliary_head(newer)
        logits = self.classifier(newer.mean(dim=(2, 3)))
        return (logits, auxiliary) if self.training else logits


def load(path):
    """The network of an exported file in evaluation mode, and its description."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["ec-darts"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    network = Network(description)
    network.load_state_dict(tensors)
    return network.eval(), description


def normalize(images, description):
    """Removes the mean and deviation that the network was trained with."""
    mean, std = (torch.tensor(description[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images - mean) / std
