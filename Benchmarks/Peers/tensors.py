"""Safetensors files as arrays, and BF16, which numpy does not have, as its 16 bits."""

import json
import math
import struct

import numpy as np

_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def to_bf16_bits(x):
    """The bits of float32 values rounded to BF16, to nearest, ties to even. For finite values."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16_bits(bits):
    """BF16 values as float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write(path, tensors):
    """Writes `{name: array}`; an array of uint16 is BF16."""
    header, offset = {}, 0
    for name, array in tensors.items():
        kind = next(key for key, value in _TYPES.items() if value == array.dtype)
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    # The data starts on a cache line, for those who map the file.
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).data)


def read(path):
    """`{name: float32 array}`, whatever the file's types."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        start, result = 8 + size, {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            file.seek(start + entry["data_offsets"][0])
            array = np.fromfile(file, _TYPES[entry["dtype"]], math.prod(entry["shape"]))
            if entry["dtype"] == "BF16":
                array = from_bf16_bits(array)
            result[name] = array.reshape(entry["shape"]).astype(np.float32, copy=False)
    return result
