"""How time and extra memory grow with N, B·H and threads. See Scripts/bench-growth."""

import os
import sys

import charts
import report
from program import Fattn, Parser, ProgramError

ALGORITHMS = ["naive", "online", "fa1", "fa2"]
HEADS = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 8), (4, 8), (8, 8)]
# What the threads share: one head, where an algorithm that is parallel over heads alone has work for one, and
# many.
THREAD_SHAPES = [(1, 1, 4096, 64), (1, 8, 1024, 64)]
# A case that would take longer than this is left out.
LONGEST_RUN = 30.0


def say(text):
    print(f"bench-growth: {text}", file=sys.stderr, flush=True)


def arguments():
    parser = Parser(
        "bench-growth", "Measure time and extra memory over N, B·H and threads.",
        "growth.json, growth.md and the charts")
    parser.add_argument("--quick", action="store_true", help="N up to 8192, about a minute")
    return parser.parse_args()


def largest_scores():
    """A quarter of the machine's memory: naive attention keeps all its scores."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4


class Sweep:
    """The rows, and the machine's ceilings: the best seen."""

    def __init__(self, path, cores):
        self.path, self.cores = path, cores
        self.rows, self.machine, self.left_out = [], {}, []

    def bench(self, kind, shape, direction, algorithms, threads, seconds=0.1):
        """The rows of one problem, `{algorithm: row}`."""
        B, H, N, D = shape
        try:
            found = Fattn(self.path, threads).bench(
                "--shape", f"{B},{H},{H},{N},{N},{D}", "--mask", "full", "--pass", direction,
                "--algorithm", ",".join(algorithms), "--gemm", "simd", "--threads", str(threads),
                "--seconds", str(seconds))
        except ProgramError as error:
            self.left_out.append(f"{B},{H},{N},{D} {direction} {','.join(algorithms)}: {error}")
            return {}
        report.keep_best(self.machine, found["machine"])
        say(f"{kind} {B},{H},{N},{D} {direction}, {threads} threads: " + ", ".join(
            f"{row['algorithm']} {row['median_s']:.2g} s" for row in found["rows"]))
        # A plan counts the threads that have work; the axis is what was asked for.
        return {row["algorithm"]: row | {"sweep": kind, "threads_asked": threads} for row in found["rows"]}

    def over_lengths(self, direction, longest):
        """N doubles for each algorithm until a run would take too long, or too much memory."""
        last, N = dict.fromkeys(ALGORITHMS, 0.0), 512
        while N <= longest:
            scores = 4 * N * N * (2 if direction == "backward" else 1)
            algorithms = [name for name in ALGORITHMS if name != "naive" or scores <= largest_scores()]
            # Four times the work of half the length.
            slow = [name for name in algorithms if 4 * last[name] > LONGEST_RUN]
            for name in ALGORITHMS:
                if name in slow:
                    self.left_out.append(f"N {N} {direction} {name}: about {4 * last[name]:.0f} s a run")
                    algorithms.remove(name)
                elif name not in algorithms:
                    self.left_out.append(f"N {N} {direction} {name}: {scores / 1e9:.0f} GB of scores")
            rows = self.bench("length", (1, 1, N, 64), direction, algorithms, self.cores)
            last |= {name: row["median_s"] for name, row in rows.items()}
            self.rows += rows.values()
            N *= 2

    def over_heads(self, direction):
        for B, H in HEADS:
            self.rows += self.bench("heads", (B, H, 1024, 64), direction, ALGORITHMS, self.cores).values()

    def over_threads(self, direction):
        """Each number of threads in turns; the best turn counts, because another program on one of the cores
        halves the speed of two threads and leaves that of one alone."""
        counts = sorted({1, 2, self.cores} & set(range(1, self.cores + 1)))
        for shape in THREAD_SHAPES:
            rounds = [
                {count: self.bench("threads", shape, direction, ALGORITHMS, count) for count in counts}
                for _ in range(3)
            ]
            for count in counts:
                for name in ALGORITHMS:
                    rows = [turn[count][name] for turn in rounds if name in turn[count]]
                    if rows:
                        times = [row["median_s"] for row in rows]
                        self.rows.append(rows[0] | {"median_s": min(times), "rounds_s": times})


def markdown(facts, rows, names):
    text = [
        "# How time and memory grow", "", *report.origin(facts),
        "No mask, D 64. Every case is checked against the FP64 oracle before it is timed; the median of its "
        "runs, of which the longest have but one. Extra memory is what a call needs beyond its inputs and "
        "outputs.",
        "", *[line for name in names for line in (f"![{name}]({name})", "")],
    ]
    for direction in ("forward", "backward"):
        chosen = [row for row in rows if row["pass"] == direction]
        text += [f"## {direction.capitalize()}", ""]
        text += ["N, one head: time and extra memory", "", *_table(
            chosen, "length", lambda row: row["Nq"], "N", lambda row: f"{_time(row)}, {_bytes(row)}"), ""]
        text += ["B·H, N 1024: time and extra memory", "", *_table(
            chosen, "heads", lambda row: row["B"] * row["H"], "B·H",
            lambda row: f"{_time(row)}, {_bytes(row)}"), ""]
        text += ["Threads: the best median of three turns", "", *_table(
            chosen, "threads",
            lambda row: f"{row['B']},{row['H']},{row['Nq']},{row['D']}: {row['threads_asked']}",
            "B,H,N,D: threads", _time), ""]
    if facts["left_out"]:
        text += ["## Left out", "", *[f"- {reason}" for reason in facts["left_out"]], ""]
    return "\n".join(text)


def _table(rows, kind, key, title, cell):
    lines = {}
    for row in rows:
        if row["sweep"] == kind:
            lines.setdefault(key(row), {})[row["algorithm"]] = cell(row)
    return [
        f"| {title} | " + " | ".join(ALGORITHMS) + " |", "|---|" + "---|" * len(ALGORITHMS),
        *(f"| {name} | " + " | ".join(cells.get(a, "") for a in ALGORITHMS) + " |"
          for name, cells in lines.items()),
    ]


def _time(row):
    seconds = row["median_s"]
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _bytes(row):
    count = row["extra_bytes"]
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def main():
    chosen = arguments()
    sweep = Sweep(chosen.fattn, os.cpu_count())
    for direction in ("forward", "backward"):
        sweep.over_lengths(direction, 8192 if chosen.quick else 65536)
        sweep.over_heads(direction)
        sweep.over_threads(direction)
    facts = report.facts_of("bench-growth", chosen, sweep.machine, sweep.cores) | {"left_out": sweep.left_out}

    def draw(folder):
        return charts.draw_growth(facts, sweep.rows, folder)

    report.write_whole(chosen.output, "growth", facts, sweep.rows, draw, markdown)
    say(f"wrote {chosen.output}/growth.json, growth.md, growth-*.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
