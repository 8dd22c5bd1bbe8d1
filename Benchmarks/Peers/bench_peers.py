"""Times fattn and its peers on the same inputs, threads and machine, in turns. See Scripts/bench-peers."""

import os
import signal
import statistics
import sys
import tempfile
import time

import cases as problems
import report
import tensors
from peer_onnxruntime import ONNXRuntime
from peer_openvino import OpenVINO
from peer_pytorch import PyTorch
from program import Fattn, Parser, ProgramError
from worker import Worker, error_of


# Rounds whose median is so many times the best of them have seen other programs at work.
UNSTEADY = 1.1


def say(text):
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)


def arguments():
    parser = Parser(
        "bench-peers", "Time fattn and its peers in turns, each result checked first.",
        "peers.json, peers.md and the charts")
    parser.add_argument("--quick", action="store_true", help="fewer shapes and rounds, about 3 minutes")
    parser.add_argument(
        "--shapes", nargs="+", metavar="B,H,Hkv,Nq,Nk,D",
        help="instead of the default set; causal and backward are timed where Nq is Nk")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="all cores by default")
    parser.add_argument("--dtype", default="f32,bf16", help="f32, bf16 or both (default)")
    parser.add_argument(
        "--require-all", action="store_true", help="end with exit code 69 if a peer is not there")
    chosen = parser.parse_args()
    chosen.dtype = chosen.dtype.split(",")
    if not set(chosen.dtype) <= {"f32", "bf16"}:
        parser.error(f"--dtype: expected f32, bf16 or f32,bf16, got {','.join(chosen.dtype)}")
    if chosen.threads < 1:
        parser.error(f"--threads: expected 1 or more, got {chosen.threads}")
    shapes = [problems.parse_shape(text) for text in chosen.shapes or []]
    if None in shapes:
        wrong = chosen.shapes[shapes.index(None)]
        parser.error(f"--shapes: expected B,H,Hkv,Nq,Nk,D with H a multiple of Hkv, got {wrong}")
    chosen.problems = problems.problems(shapes, chosen.dtype, chosen.quick)
    return chosen


class Schedule:
    """Keeps a run within its time: a case that starts late gets a single round."""

    def __init__(self, seconds, cases):
        self._start, self._seconds, self._cases, self.done = time.monotonic(), seconds, cases, 0

    @property
    def is_late(self):
        return time.monotonic() - self._start > self._seconds * (self.done + 1) / self._cases


class Entry:
    """One contestant in one case."""

    def __init__(self, contestant, case, answer):
        self.contestant, self.case, self.answer = contestant, case, answer
        self.rounds, self.runs, self.memory = [], 0, 0.0

    @property
    def is_running(self):
        return "failure" not in self.answer

    @property
    def is_unsteady(self):
        return statistics.median(self.rounds) > UNSTEADY * min(self.rounds)

    def row(self):
        case = self.case
        row = {
            "contestant": self.contestant.name, "dtype": case.dtype, "mask": case.mask,
            "pass": case.direction, "B": case.B, "H": case.H, "Hkv": case.Hkv, "Nq": case.Nq, "Nk": case.Nk,
            "D": case.D, **{key: value for key, value in self.answer.items() if key != "probe_s"},
        }
        if self.is_running and self.rounds:
            # Each round has a median of its own; a slow spell of the machine spoils a round, not the row.
            row["median_s"] = statistics.median(self.rounds)
            row["min_s"] = min(self.rounds)
            row["rounds_s"], row["runs"] = self.rounds, self.runs
            row["gflops"] = case.flops / row["median_s"] / 1e9
            row["key_value_gbps"] = case.key_value_bytes / row["median_s"] / 1e9
        return row


class Comparison:
    """The contestants, and the machine's ceilings as far as they are known."""

    def __init__(self, chosen, folder):
        self.chosen, self.folder = chosen, folder
        self.seconds, self.rounds, budget = (0.1, 2, 150) if chosen.quick else (0.25, 3, 600)
        self.schedule = Schedule(budget, sum(len(cases) for _, _, cases in chosen.problems))
        self.fattn = Fattn(chosen.fattn, chosen.threads)
        self.machine = self.fattn.machine() or {}
        self.types = {dtype for dtype in chosen.dtype if self.fattn.machine(dtype)}
        self.workers, self.missing = [], {}
        for kind in (PyTorch, ONNXRuntime, OpenVINO):
            worker = Worker(kind, chosen.threads)
            if worker.failure:
                self.missing[kind.name] = worker.failure
                say(f"{kind.name} is left out: {worker.failure}")
            else:
                self.workers.append(worker)

    def run_problem(self, shape, dtype, cases):
        """The rows of a problem's cases."""
        inputs = problems.make_inputs(shape, dtype)
        right, own = (os.path.join(self.folder, name) for name in ("f32.safetensors", "own.safetensors"))
        # The right answer is fattn's in F32, of the same values, whatever the type; fattn itself is held to
        # the FP64 oracle each time that it is timed.
        tensors.write(right, inputs)
        if dtype == "bf16":
            tensors.write(own, {name: tensors.to_bf16_bits(x) for name, x in inputs.items()})
        else:
            own = right
        rows = []
        for case in cases:
            rows += self._run_case(case, right, own)
        return rows

    def _run_case(self, case, right, own):
        reference = self._result(case, right, "right")
        entries = [self._enter(worker, case, right, reference) for worker in self.workers]
        if case.dtype in self.types:
            entries.insert(0, Entry(self.fattn, case, self._check_own(case, own, reference)))
        entries = [entry for entry in entries if entry]
        running = [entry for entry in entries if entry.is_running]
        number = 0
        while number < 1 or self._needs_round(number, running):
            # Nobody always comes after the same other.
            for entry in running[number % len(running):] + running[:number % len(running)]:
                self._turn(entry, own)
            number += 1
        self.schedule.done += 1
        memory = max((entry.memory for entry in entries), default=0.0)
        rows = [entry.row() | ({"memory_gbps": memory} if memory else {}) for entry in entries]
        say(f"{case.name}: " + ", ".join(report.brief(row) for row in rows))
        return rows

    def _needs_round(self, number, running):
        """Whether there is time for another round, and need: the planned ones, and as many again as long as
        a slow spell of the machine shows."""
        if self.schedule.is_late or number >= 2 * self.rounds:
            return False
        return number < self.rounds or any(entry.is_unsteady for entry in running if entry.is_running)

    def _enter(self, worker, case, right, reference):
        answer = worker.ask("prepare", case, right, reference)
        if answer.get("absent"):
            return None
        return Entry(worker, case, answer)

    def _check_own(self, case, own, reference):
        try:
            result = tensors.read(self._result(case, own, "result"))
            largest, rms, fault = error_of(result, tensors.read(reference), case.dtype)
            errors = {"variant": "fa2", "max_error": largest, "rms_error": rms}
            return errors | ({"failure": fault} if fault else {})
        except ProgramError as error:
            return {"failure": str(error)}

    def _result(self, case, source, name):
        """A file of what fattn makes of the inputs in another."""
        output = os.path.join(self.folder, f"{name}.safetensors")
        self.fattn.run(source, output, case.mask == "causal", case.direction == "backward")
        return output

    def _turn(self, entry, own):
        if not entry.is_running:
            return
        if entry.contestant is self.fattn:
            try:
                row, machine = self.fattn.turn(entry.case, own, self.seconds)
            except ProgramError as error:
                entry.answer["failure"] = str(error)
                return
            entry.answer |= {"Br": row["Br"], "Bc": row["Bc"], "oracle_max_abs_error": row["max_abs_error"]}
            report.keep_best(self.machine, machine)
            # Unlike the multiply-add peak, the speed of memory depends on who else uses it: it is that of the
            # case's own turns.
            entry.memory = max(entry.memory, machine["memory_gbps"])
            entry.rounds.append(row["median_s"])
            entry.runs += row["runs"]
            return
        warm = entry.answer["probe_s"] > 0.3
        times = entry.contestant.ask("run", self.seconds, warm)
        if isinstance(times, dict):
            entry.answer |= times
            return
        entry.rounds.append(statistics.median(times))
        entry.runs += len(times)

    def stop(self):
        for worker in self.workers:
            worker.stop()


def main():
    chosen = arguments()
    # As an interrupt does: the files of inputs are large.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(chosen, folder)
        if not comparison.machine:
            say("fattn cannot measure this machine: try `fattn bench`")
            return 69
        for dtype in sorted(set(chosen.dtype) - comparison.types):
            say(f"fattn does not compute in {dtype} yet: the peers are timed alone")
        rows = []
        try:
            for shape, dtype, cases in chosen.problems:
                rows += comparison.run_problem(shape, dtype, cases)
        finally:
            comparison.stop()
    versions = {worker.name: worker.version for worker in comparison.workers}
    report.write(chosen, comparison, versions, rows)
    say(f"wrote {chosen.output}/peers.json, peers.md, peers*.png in {time.monotonic() - start:.0f} s")
    failed = [row for row in rows if "failure" in row]
    for row in failed:
        say(f"not timed: {report.title(row)}: {row['failure']}")
    if any(row["contestant"] == "fattn" for row in failed):
        return 1
    return 69 if chosen.require_all and comparison.missing else 0


if __name__ == "__main__":
    sys.exit(main())
