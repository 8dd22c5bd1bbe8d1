"""A process for each peer, so that their thread pools do not meet, and the pipe to it."""

import multiprocessing
import os
import time

import numpy as np

import tensors

# |x − right| may be so much of the largest |right|, and its root mean square of that of the right answer.
BOUNDS = {"f32": (5e-5, 1e-5), "bf16": (3e-2, 1e-2)}


def error_of(result, reference, dtype):
    """`(largest, rms, fault)` over O, or over the gradients, relative to the right answer."""
    largest = rms = 0.0
    for name in ("dq", "dk", "dv") if "dq" in reference else ("out",):
        x, right = result[name], reference[name]
        off = x.astype(np.float64) - right
        largest = max(largest, float(np.abs(off).max() / np.abs(right).max()))
        rms = max(rms, float(np.sqrt((off**2).mean() / (right.astype(np.float64) ** 2).mean())))
    most, most_rms = BOUNDS[dtype]
    # A NaN is no less than anything.
    fine = largest <= most and rms <= most_rms
    return largest, rms, None if fine else f"off by {largest:.1e}, {rms:.1e} rms"


def run_for(variant, seconds, warm):
    """The times of runs that fill so many seconds, one at least, after one that is not counted."""
    variant.restart()
    if not warm:
        variant.run()
    times = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        variant.run()
        times.append(time.perf_counter() - start)
    return times


def _best_time(variant):
    """Of several runs: in a slow spell of the machine the wrong variant would be chosen."""
    times = run_for(variant, 0.02, warm=True)
    if times[0] < 0.3:
        times += run_for(variant, 0.1, warm=True)
    return min(times)


def _prepare(peer, case, inputs, reference):
    """Sets up, from files of the inputs and of the right answer, the fastest of a peer's variants whose
    result is right: that, and what is said of it."""
    inputs, reference = tensors.read(inputs), tensors.read(reference)
    best, seen, faults = None, [], []
    for variant in peer.variants(case, inputs):
        variant.run()
        largest, rms, fault = error_of(variant.result(), reference, case.dtype)
        if fault:
            faults.append(f"{variant.name}: {fault}")
            continue
        probe = _best_time(variant)
        seen.append(variant.name)
        if best is None or probe < best[1]["probe_s"]:
            best = variant, {
                "variant": variant.name, "max_error": largest, "rms_error": rms, "probe_s": probe}
    if best is None:
        return None, {"failure": "; ".join(faults) or "no variant"}
    best[1]["variants_tried"] = seen
    best[1]["disagreed"] = faults
    return best


def _serve(connection, kind, threads):
    try:
        peer = kind(threads)
    except Exception as error:  # whatever a library throws at its import, the others go on
        connection.send({"failure": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    connection.send({"version": peer.version})
    chosen = None
    while True:
        verb, *arguments = connection.recv()
        try:
            if verb == "stop":
                return
            if verb == "prepare":
                chosen = None  # gives the memory of the case before back
                case = arguments[0]
                reason = peer.offers(case)
                answer = {"absent": reason}
                if reason is None:
                    chosen, answer = _prepare(peer, *arguments)
            else:
                answer = run_for(chosen, *arguments)
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
        connection.send(answer)


class Worker:
    """A peer in its own process."""

    def __init__(self, kind, threads):
        self.name = kind.name
        context = multiprocessing.get_context("spawn")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind, threads), daemon=True)
        self._process.start()
        theirs.close()
        answer = self._receive(120)
        self.version, self.failure = answer.get("version"), answer.get("failure")

    def ask(self, *message, seconds=300):
        """What the peer answers, or `{failure}`, also if it ends or says nothing for so long."""
        if not self._process.is_alive():
            return {"failure": "its process has ended"}
        self._connection.send(message)
        return self._receive(seconds)

    def _receive(self, seconds):
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
            self.stop()
            return {"failure": f"no answer in {seconds} s"}
        except (EOFError, OSError):
            return {"failure": "its process has ended"}

    def stop(self):
        self._process.kill()
        self._process.join()
