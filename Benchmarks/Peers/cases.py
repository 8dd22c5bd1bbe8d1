"""Which problems are timed, how many operations they are counted as, and their inputs."""

from dataclasses import dataclass

import numpy as np

import tensors

SQUARES = [
    "1,8,8,512,512,64", "1,8,8,2048,2048,64", "1,8,8,2048,2048,128", "1,4,4,8192,8192,64",
    "1,4,4,8192,8192,128", "4,12,12,128,128,32", "1,1,1,16384,16384,64",
]
# Where BF16 says something that another shape does not.
BF16_SQUARES = ["1,8,8,2048,2048,64", "1,8,8,2048,2048,128", "1,4,4,8192,8192,128", "4,12,12,128,128,32"]
QUICK_SQUARES = ["1,8,8,512,512,64", "1,8,8,2048,2048,64", "1,8,8,2048,2048,128", "4,12,12,128,128,32"]
DECODES = ["1,32,8,1,4096,128", "1,32,8,1,16384,128", "1,32,8,1,131072,128"]
QUICK_DECODES = DECODES[:2]


@dataclass(frozen=True)
class Case:
    """One problem: `q` `[B,H,Nq,D]`, `k` and `v` `[B,Hkv,Nk,D]`."""

    B: int
    H: int
    Hkv: int
    Nq: int
    Nk: int
    D: int
    dtype: str
    mask: str
    direction: str  # forward or backward; `pass` is a keyword

    @property
    def is_decode(self):
        return self.Nq <= 16 and self.Nk > self.Nq

    @property
    def shape(self):
        return f"{self.B},{self.H},{self.Hkv},{self.Nq},{self.Nk},{self.D}"

    @property
    def label(self):
        """The shape for readers: B,H,N,D of a square."""
        if self.is_decode:
            return f"{self.B},{self.H}/{self.Hkv},{self.Nq}×{self.Nk},{self.D}"
        return f"{self.B},{self.H},{self.Nq},{self.D}"

    @property
    def name(self):
        return f"{self.shape} {self.dtype} {self.mask} {self.direction}"

    @property
    def flops(self):
        """4·B·H·Nq·Nk·D forward, half of it when causal, 2.5 times it backward."""
        work = 4.0 * self.B * self.H * self.Nq * self.Nk * self.D
        return work * (0.5 if self.mask == "causal" else 1) * (2.5 if self.direction == "backward" else 1)

    @property
    def key_value_bytes(self):
        """K and V, read once: what bounds decoding."""
        return 2 * self.B * self.Hkv * self.Nk * self.D * (4 if self.dtype == "f32" else 2)

    @property
    def score_bytes(self):
        """What a peer takes that keeps all scores in memory."""
        return 4 * self.B * self.H * self.Nq * self.Nk


def parse_shape(text):
    """`B,H,Hkv,Nq,Nk,D`, as `fattn bench --shape` takes it, or None."""
    parts = text.split(",")
    if len(parts) != 6 or not all(part.isdigit() and int(part) > 0 for part in parts):
        return None
    B, H, Hkv, Nq, Nk, D = map(int, parts)
    return (B, H, Hkv, Nq, Nk, D) if H % Hkv == 0 else None


def default_shapes(dtype, quick):
    """What is timed unless shapes are asked for."""
    if quick:
        return QUICK_SQUARES + QUICK_DECODES
    return (SQUARES if dtype == "f32" else BF16_SQUARES) + DECODES


def problems(shapes, dtypes, quick):
    """The cases of each problem, which share their inputs: `[(shape, dtype, [Case])]`.

    - shapes: parsed, or None for the default ones.
    """
    result = []
    for dtype in dtypes:
        for shape in shapes or [parse_shape(text) for text in default_shapes(dtype, quick)]:
            cases = [
                Case(*shape, dtype, mask, direction)
                for mask in ("full", "causal")
                for direction in ("forward", "backward")
            ]
            decode, square = cases[0].is_decode, shape[3] == shape[4]
            # A causal mask is aligned differently by different peers where Nq is not Nk.
            cases = [case for case in cases if square or case.mask == "full"]
            cases = [case for case in cases if not decode or case.direction == "forward"]
            result.append((shape, dtype, cases))
    return result


def make_inputs(shape, dtype, seed=7):
    """`{q, k, v, dout}` from N(0, 1) in float32, with the values of the type."""
    B, H, Hkv, Nq, Nk, D = shape
    random = np.random.default_rng(seed)
    extents = {"q": (B, H, Nq, D), "k": (B, Hkv, Nk, D), "v": (B, Hkv, Nk, D), "dout": (B, H, Nq, D)}
    inputs = {name: random.standard_normal(extent, dtype=np.float32) for name, extent in extents.items()}
    if dtype == "bf16":
        inputs = {name: tensors.from_bf16_bits(tensors.to_bf16_bits(x)) for name, x in inputs.items()}
    return inputs
