"""`fattn`, run as a user runs it."""

import json
import os
import subprocess
import tempfile


class ProgramError(Exception):
    """`fattn` ended with an error: its own line of it."""


class Fattn:
    name = "fattn"

    def __init__(self, path, threads):
        self.path, self.threads = path, threads

    def _call(self, *arguments):
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise ProgramError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])

    def run(self, source, output, causal, backward):
        """`fattn run` over a file."""
        self._call(
            "run", source, "--output", output, "--threads", str(self.threads),
            *(["--causal"] if causal else []), *(["--backward"] if backward else []))

    def bench(self, *arguments):
        """The JSON of `fattn bench`."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.json")
            self._call("bench", *arguments, "--json", path)
            with open(path) as file:
                return json.load(file)

    def turn(self, case, source, seconds):
        """The row of one case, timed for so many seconds, and the machine as it was measured beside it."""
        report = self.bench(
            "--input", source, "--algorithm", "fa2", "--gemm", "simd", "--mask", case.mask,
            "--pass", case.direction, "--threads", str(self.threads), "--seconds", str(seconds))
        return report["rows"][0], report["machine"]

    def takes(self, dtype):
        """Whether this build computes in the type."""
        try:
            self._call("bench", "--shape", "1,1,1,8,8,8", "--dtype", dtype, "--seconds", "0.001")
            return True
        except ProgramError:
            return False
