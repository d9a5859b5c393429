"""Bytes and operations of a search step of first order on a GPU, counted from the launches and not measured.

    python3 benches/gpu/traffic.py [channels cells image batch]      the paper's: 16 8 32 64

Every launch counts as one read of each map that it needs and one write of each map that it makes: repeated reads by
several cubes of a launch are assumed to come from the caches. Tables, weights, and parts of sums are left out, because
they are small. An operation is a multiplication or an addition of a convolution; normalizations, pools and ReLUs are
left out.
"""
import collections
import sys

channels, cells, image, batch = [int(each) for each in sys.argv[1:]] or [16, 8, 32, 64]
# Candidates with weights: side of the kernel, blocks.
SEPARABLE = [(3, 2), (5, 2), (3, 1), (5, 1)]

bytes_of = collections.Counter()
operations_of = collections.Counter()


def count(kernel, values=0, multiplications=0):
    bytes_of[kernel] += 4 * batch * values
    operations_of[kernel] += 2 * batch * multiplications


def block(source, made, pointwise, depthwise, with_weights, reads_gradient_twice):
    """A convolution with its gather, forward and backward; maps in values of an image.

    `depthwise` and `pointwise` are its multiplications; the gathered map has one value for each
    multiplication of an output channel.
    """
    gathered = pointwise // made["channels"]
    count("blocks", source + made["map"], pointwise + depthwise)
    # Each reader computes the gradient of its map from the gradient after it and from the map itself.
    count("products", 2 * made["map"] + gathered, pointwise)
    if with_weights and depthwise:
        # The depthwise launch writes the gathered values in the place of their gradient, for the pointwise launch.
        count("weight gradients", source + 2 * gathered, 2 * depthwise)
        count("weight gradients", gathered + 2 * made["map"], pointwise)
    elif with_weights:
        count("weight gradients", source + 2 * made["map"], pointwise)
    count("sources", gathered + (source if reads_gradient_twice else 0), depthwise)


def edge(width, size, stride, with_weights):
    """All candidates of an edge between two states."""
    pixels = (size // stride) ** 2
    source, map_ = width * size * size, width * pixels
    made = {"channels": width, "map": map_}
    for side, repeats in SEPARABLE:
        dense = (width * map_, side * side * map_)
        block(source, made, *dense, with_weights, False)
        if repeats == 2:
            # The gradient of the map between two blocks is written, and the first block reads it again.
            block(map_, made, *dense, with_weights, True)
            count("sources", map_)
    if stride == 2:
        block(source, made, width * map_, 0, with_weights, False)
    # Both pools; their maps are made once for all edges that read the state.
    count("pools: backward", 2 * map_)
    terms = len(SEPARABLE) + 3  # With the pools, and the identity or the reduction.
    count("nodes", terms * map_)
    count("normalizations backward", (terms + 1) * map_)
    count("sources", (0 if stride == 2 else map_) + 2 * source)


def pools(width, size, stride):
    """The two pools of a state: maps, which the backward pass makes again, and the gradient of the state."""
    source, map_ = width * size * size, width * (size // stride) ** 2
    count("pools: maps", 2 * 2 * (source + map_))
    count("pools: backward", 2 * source + 2 * source)


def preprocessing(inputs, width, size, halves, with_weights):
    """From an input of a cell to its state."""
    pixels = size * size // (4 if halves else 1)
    source, map_ = inputs * size * size, width * pixels
    block(source, {"channels": width, "map": map_}, inputs * map_, 0, with_weights, False)
    count("sources", 2 * source)
    count("nodes", 2 * map_)
    count("normalizations backward", 2 * map_)


def network(with_weights):
    older, newer, width, size, after_reduction = 3 * channels, 3 * channels, channels, image, False
    count("blocks", 3 * size * size + newer * size * size, 27 * newer * size * size)  # The stem.
    for position in range(cells):
        reduces = position in (cells // 3, 2 * cells // 3)
        width *= 2 if reduces else 1
        preprocessing(older, width, 2 * size if after_reduction else size, after_reduction, with_weights)
        preprocessing(newer, width, size, False, with_weights)
        after = size // (2 if reduces else 1)
        for state in range(5):
            halves = reduces and state < 2
            pools(width, size if halves else after, 2 if halves else 1)
        for node in range(4):
            for state in range(2 + node):
                halves = reduces and state < 2
                edge(width, size if halves else after, 2 if halves else 1, with_weights)
            # Its state, in its place and in the output, and the gradient of both.
            count("nodes", 2 * width * after * after)
            count("parts of the output's gradient", 2 * width * after * after)
        older, newer, size, after_reduction = newer, 4 * width, after, reduces


network(False)
network(True)
print("| kernels | GB a step | GFLOP a step |\n| --- | --- | --- |")
for kernel, number in bytes_of.most_common():
    print(f"| {kernel} | {number / 1e9:.1f} | {operations_of[kernel] / 1e9:.0f} |")
print(f"| all | {sum(bytes_of.values()) / 1e9:.1f} | {sum(operations_of.values()) / 1e9:.0f} |")
