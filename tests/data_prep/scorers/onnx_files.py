"""Tiny models in the ONNX format, written by hand: fields of its protocol buffers are (number, value)."""

import numpy as np


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def tensor(name, array):
    array = np.asarray(array, np.float32)
    return message(*((1, side) for side in array.shape), (2, 1), (8, name), (9, array.tobytes()))


def value(name, shape):
    sides = [message((1, side)) if isinstance(side, int) else message((2, side)) for side in shape]
    return message((1, name), (2, message((1, message((1, 1), (2, message(*((1, side) for side in sides))))))))


def node(kind, inputs, outputs):
    return message(*((1, name) for name in inputs), *((2, name) for name in outputs), (4, kind))


def model(nodes, tensors, inputs, outputs):
    graph = message(*((1, n) for n in nodes), (2, "g"), *((5, t) for t in tensors),
                    *((11, i) for i in inputs), *((12, o) for o in outputs))  # fmt: skip
    return message((1, 8), (7, graph), (8, message((2, 13))))


def bright_detector(steepness=50.0, level=0.0):
    """Probability near 1 where the mean of the normalized colors is above `level`, near 0 elsewhere."""
    nodes = [node("Conv", ["x", "w", "b"], ["y"]), node("Sigmoid", ["y"], ["p"])]
    weights = [tensor("w", np.full((1, 3, 1, 1), steepness / 3)), tensor("b", [-steepness * level])]
    return model(nodes, weights, [value("x", (1, 3, "h", "w"))], [value("p", (1, 1, "h", "w"))])


def constant(outputs, size):
    """Gives the same named arrays for every input [1, 3, size, size]."""
    nodes = [node("Identity", [f"{name}_"], [name]) for name in outputs]
    tensors = [tensor(f"{name}_", array) for name, array in outputs.items()]
    shapes = [value(name, array.shape) for name, array in outputs.items()]
    return model(nodes, tensors, [value("x", (1, 3, size, size))], shapes)
