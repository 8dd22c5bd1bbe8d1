"""The peers: each sets a case up in every way that it offers and runs it.

`variants(case, inputs)` yields `(name, run, result)`, where `run()` computes once and `result()` gives what
was computed last as float32 arrays `{out}` or `{dq, dk, dv}`. Whatever is done only once per model (copies
into the layout that a peer likes, compilation, room for the output) is done before `run`.
"""

import numpy as np

import tensors

# A variant that writes all scores to memory is left out beyond so many bytes of them.
LARGEST_SCORES = 1.2e9


def by_key_head(case, q):
    """`[B,H,1,D]` as `[B,Hkv,H/Hkv,D]`: the queries that share a key head as rows of one problem."""
    return q.reshape(case.B, case.Hkv, case.H // case.Hkv, case.D)


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
        elif case.score_bytes <= LARGEST_SCORES / 8:
            ways.append(("math", SDPBackend.MATH, {}))
        for name, backend, options in ways:
            yield (name, *self._variant(case, x, backend, **options))

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
            return {
                name: value.detach().float().numpy().reshape(x[name.replace("out", "q").lstrip("d")].shape)
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


class ONNXRuntime:
    name = "ONNX Runtime"

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.ort, self.threads = onnx, onnxruntime, threads
        self.version = onnxruntime.__version__

    def offers(self, case):
        if case.direction == "backward":
            return "has no backward pass"
        return "attention takes no BF16 on the CPU" if case.dtype != "f32" else None

    def variants(self, case, inputs):
        grouped, causal = case.H != case.Hkv, case.mask == "causal"
        if not grouped:
            yield ("MultiHeadAttention", *self._multi_head(case, inputs, causal))
        if causal:
            yield ("GroupQueryAttention", *self._group_query(case, inputs, past=0))
        elif case.Nq == 1:
            yield ("GroupQueryAttention", *self._group_query(case, inputs, past=case.Nk - 1))
        if case.score_bytes <= LARGEST_SCORES:
            yield ("Attention", *self._attention(case, inputs, causal))

    def _multi_head(self, case, x, causal):
        feeds = {name: _rows_of_heads(x[name]) for name in "qkv"}
        attributes = {"num_heads": case.H, "unidirectional": int(causal)}
        run, done = self._session(
            "MultiHeadAttention", "com.microsoft", ["q", "k", "v"], feeds, {"o": feeds["q"].shape}, attributes)
        return run, lambda: {"out": _heads_of_rows(done["o"].numpy(), case)}

    def _attention(self, case, x, causal):
        feeds = {name: x[name] for name in "qkv"}
        run, done = self._session(
            "Attention", "", ["q", "k", "v"], feeds, {"o": x["q"].shape}, {"is_causal": int(causal)})
        return run, lambda: {"out": done["o"].numpy()}

    def _group_query(self, case, x, past):
        """The operator of its language models: always causal, with the older keys in a cache that the call
        extends in place."""
        cache = (case.B, case.Hkv, case.Nk, case.D)
        feeds = {
            "q": _rows_of_heads(x["q"]),
            "k": _rows_of_heads(x["k"][:, :, past:]), "v": _rows_of_heads(x["v"][:, :, past:]),
            "pk": x["k"].copy() if past else None, "pv": x["v"].copy() if past else None,
            "last": np.full(case.B, case.Nk - 1, np.int32), "total": np.array([case.Nk], np.int32),
        }
        feeds = {name: value for name, value in feeds.items() if value is not None}
        names = ["q", "k", "v", "pk" if past else "", "pv" if past else "", "last", "total"]
        run, done = self._session(
            "GroupQueryAttention", "com.microsoft", names, feeds,
            {"o": feeds["q"].shape, "nk": cache, "nv": cache},
            {"num_heads": case.H, "kv_num_heads": case.Hkv}, shared={"nk": "pk", "nv": "pv"} if past else {})
        return run, lambda: {"out": _heads_of_rows(done["o"].numpy(), case)}

    def _session(self, operator, domain, names, feeds, outputs, attributes, shared={}):
        """A model of one node, bound to its operands, and `{output: value}`."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        ort = self.ort

        def info(name, array):
            kind = kinds.FLOAT if array.dtype == np.float32 else kinds.INT32
            return helper.make_tensor_value_info(name, kind, array.shape)

        node = helper.make_node(operator, names, list(outputs), domain=domain, **attributes)
        graph = helper.make_graph(
            [node], "attention", [info(name, array) for name, array in feeds.items()],
            [helper.make_tensor_value_info(name, kinds.FLOAT, extent) for name, extent in outputs.items()])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)],
            ir_version=10)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self.threads
        settings.log_severity_level = 4
        session = ort.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        done = {
            name: values[shared[name]] if name in shared
            else ort.OrtValue.ortvalue_from_numpy(np.empty(extent, np.float32))
            for name, extent in outputs.items()
        }
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in done.items():
            binding.bind_ortvalue_output(name, value)
        # An OrtValue may stand on the array that it was made from.
        return lambda: feeds and session.run_with_iobinding(binding), done


def _rows_of_heads(x):
    """`[B,H,N,D]` as `[B,N,H·D]`."""
    B, H, N, D = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(B, N, H * D)


def _heads_of_rows(x, case):
    """`[B,Nq,H·D]` as `[B,H,Nq,D]`."""
    return x.reshape(case.B, case.Nq, case.H, case.D).transpose(0, 2, 1, 3)


class OpenVINO:
    name = "OpenVINO"

    def __init__(self, threads):
        import openvino

        self.openvino, self.threads = openvino, threads
        self.version = openvino.__version__.split("-")[0]

    def offers(self, case):
        if case.direction == "backward":
            return "has no backward pass"
        return None if case.H == case.Hkv or case.Nq == 1 else "has no grouped heads here"

    def variants(self, case, inputs):
        kinds = self.openvino.Type
        if case.dtype == "f32":
            ways = [("f32", kinds.f32, "f32")]
        else:
            ways = [("bf16", kinds.bf16, "bf16"), ("bf16 of f32 operands", kinds.f32, "bf16")]
        for name, kind, precision in ways:
            yield (name, *self._variant(case, inputs, kind, precision))

    def _variant(self, case, inputs, kind, precision):
        openvino = self.openvino
        import openvino.opset13 as operators

        q = by_key_head(case, inputs["q"]) if case.H != case.Hkv else inputs["q"]
        operands = [q, inputs["k"], inputs["v"]]
        parameters = [operators.parameter(x.shape, kind) for x in operands]
        node = operators.scaled_dot_product_attention(*parameters, causal=case.mask == "causal")
        compiled = openvino.Core().compile_model(
            openvino.Model([node], parameters), "CPU",
            {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": precision,
             "PERFORMANCE_HINT": "LATENCY"})
        request = compiled.create_infer_request()
        is_half = kind == openvino.Type.bf16
        # Held by `run` below: a tensor stands on its array.
        arrays = [tensors.to_bf16_bits(x) if is_half else np.ascontiguousarray(x) for x in operands]
        for index, (array, x) in enumerate(zip(arrays, operands)):
            tensor = openvino.Tensor(array, x.shape, kind) if is_half else openvino.Tensor(array, True)
            request.set_input_tensor(index, tensor)

        def result():
            out = request.get_output_tensor(0).data
            out = tensors.from_bf16_bits(out.view(np.uint16)) if is_half else out
            return {"out": out.reshape(inputs["q"].shape)}

        return lambda: arrays and request.infer(), result


ALL = [PyTorch, ONNXRuntime, OpenVINO]
