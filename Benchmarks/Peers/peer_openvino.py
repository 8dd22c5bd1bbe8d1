"""OpenVINO: `ScaledDotProductAttention`, alone or behind the key/value cache that its language models use."""

import numpy as np

import tensors
from peers import Variant, by_key_head


class OpenVINO:
    name = "OpenVINO"

    def __init__(self, threads):
        import openvino

        self.openvino, self.threads = openvino, threads
        self.version = openvino.__version__.split("-")[0]

    def offers(self, case):
        if case.direction == "backward":
            return "has no backward pass"
        return None if case.H == case.Hkv or case.Nq == 1 else "has no grouped heads outside its cache"

    def variants(self, case, inputs):
        kinds = self.openvino.Type
        if case.dtype == "f32":
            ways = [("f32", kinds.f32, "f32")]
        else:
            ways = [("bf16", kinds.bf16, "bf16"), ("bf16 of f32 operands", kinds.f32, "bf16")]
        for name, kind, precision in ways:
            yield Variant(name, *self._plain(case, inputs, kind, precision))
        if case.is_decode and case.Nq == 1 and case.B == 1:
            yield Variant("cache", *self._cached(case, inputs))

    def _compile(self, model, precision):
        return self.openvino.Core().compile_model(
            model, "CPU",
            {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": precision,
             "KV_CACHE_PRECISION": precision, "PERFORMANCE_HINT": "LATENCY"})

    def _plain(self, case, inputs, kind, precision):
        openvino = self.openvino
        import openvino.opset13 as operators

        q = by_key_head(case, inputs["q"]) if case.H != case.Hkv else inputs["q"]
        operands = [q, inputs["k"], inputs["v"]]
        parameters = [operators.parameter(x.shape, kind) for x in operands]
        node = operators.scaled_dot_product_attention(*parameters, causal=case.mask == "causal")
        request = self._compile(openvino.Model([node], parameters), precision).create_infer_request()
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

    def _cached(self, case, inputs):
        """A step of decoding: all keys but the last are in the cache, to which a call adds the last."""
        openvino = self.openvino
        precision = case.dtype
        request = self._compile(self._model_with_cache(case), precision).create_infer_request()
        older = {name: np.ascontiguousarray(inputs[name][:, :, :-1]) for name in "kv"}
        feeds = [inputs["q"], *(np.ascontiguousarray(inputs[name][:, :, -1:]) for name in "kv")]
        feeds.append(np.zeros(case.B, np.int32))
        done = {}

        def fill():
            for state in request.query_state():
                state.state = openvino.Tensor(older[state.name[0]])

        def run():
            # Adds a key at every call, which `restart` takes out again.
            done["out"] = request.infer(feeds, share_inputs=True, share_outputs=True)[0]

        def restart():
            fill()
            # The first call after that copies the keys into the layout of the cache.
            run()

        fill()
        return run, lambda: {"out": done["out"].reshape(inputs["q"].shape)}, restart

    def _model_with_cache(self, case):
        openvino = self.openvino
        import openvino.opset13 as operators
        from openvino import opset6

        B, H, Hkv, D = case.B, case.H, case.Hkv, case.D
        f32, extents = openvino.Type.f32, openvino.PartialShape([B, Hkv, -1, D])
        q = operators.parameter([B, H, 1, D], f32)
        # Which older sequence each batch entry goes on from, as beam search has it.
        beam = operators.parameter([B], openvino.Type.i32)
        added, operands, assigned = [], [], []
        for name in "kv":
            x = operators.parameter([B, Hkv, 1, D], f32)
            empty = operators.constant(np.zeros((B, Hkv, 0, D), np.float32))
            past = opset6.read_value(empty, name, f32, extents)
            past = operators.gather(past, beam, operators.constant(np.int64(0)))
            keys = operators.concat([past, x], 2)
            assigned.append(opset6.assign(keys, name))
            # Each head as often as queries share it; the compiler takes the copies out again.
            heads = operators.unsqueeze(keys, operators.constant(np.int64(2)))
            heads = operators.broadcast(
                heads, operators.constant(np.array([1, 1, H // Hkv, 1, 1], np.int64)),
                broadcast_spec="BIDIRECTIONAL")
            operands.append(operators.reshape(
                heads, operators.constant(np.array([0, H, -1, D], np.int64)), True))
            added.append(x)
        node = operators.scaled_dot_product_attention(q, *operands)
        return openvino.Model([operators.result(node)], assigned, [q, *added, beam])
