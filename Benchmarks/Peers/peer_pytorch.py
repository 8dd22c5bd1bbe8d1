"""PyTorch: `scaled_dot_product_attention`, the only peer with a backward pass."""

from peers import LARGEST_SCORES, Variant, by_key_head


class PyTorch:
    name = "PyTorch"

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.version = torch, torch.__version__

    def offers(self, case):
        return None

    def variants(self, case, inputs):
        from torch.nn.attention import SDPBackend

        torch = self.torch
        kind = torch.float32 if case.dtype == "f32" else torch.bfloat16
        x = {name: torch.from_numpy(array).to(kind) for name, array in inputs.items()}
        if case.direction == "backward":
            for name in ("q", "k", "v"):
                x[name].requires_grad_(True)
        ways = [("flash", SDPBackend.FLASH_ATTENTION, {})]
        if case.H != case.Hkv:
            ways = [("flash, enable_gqa", SDPBackend.FLASH_ATTENTION, {"enable_gqa": True})]
            if case.Nq == 1:
                ways.append(("flash, grouped queries", SDPBackend.FLASH_ATTENTION, {"grouped": True}))
        elif case.score_bytes <= LARGEST_SCORES:
            ways.append(("math", SDPBackend.MATH, {}))
        for name, backend, options in ways:
            yield Variant(name, *self._variant(case, x, backend, **options))

    def _variant(self, case, x, backend, grouped=False, **options):
        torch = self.torch
        from torch.nn.attention import sdpa_kernel

        q = by_key_head(case, x["q"]) if grouped else x["q"]
        done = {}

        def attention():
            return torch.nn.functional.scaled_dot_product_attention(
                q, x["k"], x["v"], is_causal=case.mask == "causal", **options)

        def forward():
            with sdpa_kernel(backend), torch.no_grad():
                done["out"] = attention()

        def result():
            like = {"out": x["q"], "dq": x["q"], "dk": x["k"], "dv": x["v"]}
            return {
                name: value.detach().float().reshape(like[name].shape).numpy()
                for name, value in done.items()
            }

        if case.direction == "forward":
            return forward, result
        with sdpa_kernel(backend):
            out = attention()

        def backward():
            gradients = torch.autograd.grad(
                out, (x["q"], x["k"], x["v"]), x["dout"], retain_graph=True)
            done.update(zip(("dq", "dk", "dv"), gradients))

        return backward, result
