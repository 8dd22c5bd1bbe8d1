"""`fattn`, run as a user runs it, and what the command lines of the scripts have in common."""

import argparse
import json
import os
import subprocess
import tempfile


class Parser(argparse.ArgumentParser):
    """The arguments that the shell scripts give, and their exit code for wrong usage."""

    def __init__(self, script, description, files):
        super().__init__(prog=script, description=description)
        self.add_argument("--fattn", required=True, help=argparse.SUPPRESS)
        self.add_argument("--revision", default="", help=argparse.SUPPRESS)
        self.add_argument("--output", default="Docs/Benchmarks", help=f"the folder for {files}")

    def parse_args(self):
        chosen = super().parse_args()
        # Now rather than after all the work.
        try:
            os.makedirs(chosen.output, exist_ok=True)
            tempfile.TemporaryFile(dir=chosen.output).close()
        except OSError as error:
            self.exit(74, f"{self.prog}: error: --output: {error}\n")
        return chosen

    def error(self, message):
        self.exit(64, f"{self.prog}: error: {message}\n")


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

    def machine(self, dtype="f32"):
        """The machine as `fattn` measures it, or None if it does not compute in the type."""
        try:
            return self.bench(
                "--shape", "1,1,1,8,8,8", "--dtype", dtype, "--algorithm", "fa2", "--gemm", "simd",
                "--threads", str(self.threads), "--seconds", "0.001")["machine"]
        except ProgramError:
            return None
