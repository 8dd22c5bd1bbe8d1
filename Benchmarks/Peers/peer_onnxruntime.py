"""ONNX Runtime: its three attention operators, each a model of one node."""

import numpy as np

from peers import LARGEST_SCORES, Variant


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
            yield Variant("MultiHeadAttention", *self._multi_head(case, inputs, causal))
        if causal:
            yield Variant("GroupQueryAttention", *self._group_query(case, inputs, past=0))
        elif case.Nq == 1:
            yield Variant("GroupQueryAttention", *self._group_query(case, inputs, past=case.Nk - 1))
        if case.score_bytes <= LARGEST_SCORES:
            yield Variant("Attention", *self._attention(case, inputs, causal))

    def _multi_head(self, case, x, causal):
        feeds = {name: _rows_of_heads(x[name]) for name in "qkv"}
        attributes = {"num_heads": case.H, "unidirectional": int(causal)}
        run, done = self._session(
            "MultiHeadAttention", "com.microsoft", ["q", "k", "v"], feeds, {"o": feeds["q"].shape},
            attributes)
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
