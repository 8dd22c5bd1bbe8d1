"""What a comparison found, as JSON, a Markdown table and charts. Nothing is half written."""

import collections
import datetime
import json
import os
import platform
import shlex
import sys
import tempfile

import charts
from cases import Case
from worker import BOUNDS

CONTESTANTS = ["fattn", "PyTorch", "ONNX Runtime", "OpenVINO"]


def case_of(row):
    return Case(*(row[name] for name in ("B", "H", "Hkv", "Nq", "Nk", "D", "dtype", "mask", "pass")))


def title(row):
    return f"{row['contestant']}, {case_of(row).name}"


def brief(row):
    return f"{row['contestant']} " + ("-" if "failure" in row else f"{row['median_s'] * 1e3:.2f} ms")


def add_shares(rows, machine):
    """Adds each row's share of what bounds it: memory when decoding, multiply-adds otherwise."""
    for row in rows:
        if "gflops" not in row:
            continue
        # The ceiling of a type is that of its own instruction where there is one.
        peak = machine.get("bf16_peak_gflops") if row["dtype"] == "bf16" else None
        row["peak_fraction"] = row["gflops"] / (peak or machine["fma_peak_gflops_f32"])
        # Without fattn there is no measurement beside the case.
        row["bandwidth_fraction"] = row["key_value_gbps"] / row.get("memory_gbps", machine["memory_gbps"])


def keep_best(machine, seen):
    """Keeps the best ceilings seen: one taken in a slow spell would flatter everybody."""
    for name, value in seen.items():
        if isinstance(value, float) and isinstance(machine.get(name), float):
            value = max(value, machine[name])
        machine[name] = value


def facts_of(script, chosen, machine, threads):
    """What a reader has to know of any figures."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join([f"./Scripts/{script}", *map(shlex.quote, _asked())]),
        "revision": chosen.revision, "machine": machine, "os": machine.get("os") or platform.platform(),
        "threads": threads,
    }


def _asked():
    """The user's own arguments, without what the shell script adds and where the results go."""
    words, result = iter(sys.argv[1:]), []
    for word in words:
        if word in ("--fattn", "--revision", "--output"):
            next(words, None)
        else:
            result.append(word)
    return result


def origin(facts):
    """The first lines of a page of figures."""
    machine = facts["machine"]
    peak = f"multiply-add peak {machine['fma_peak_gflops_f32']:.0f} GFLOP/s in F32"
    if machine.get("bf16_peak_gflops"):
        peak += f", {machine['bf16_peak_gflops']:.0f} in BF16"
    return [
        f"`{facts['command']}`, {facts['date']}, fattn at {facts['revision'] or 'an unknown revision'}.", "",
        f"{machine['cpu']}, {facts['threads']} of {machine['cores']} cores, kernels {machine['kernels']}, "
        f"{facts['os']}. Measured in the same run: {peak}; memory {machine['memory_gbps']:.1f} GB/s.", "",
    ]


def write_whole(output, name, facts, rows, draw, describe):
    """Writes `NAME.json`, `NAME.md` and the charts that `draw` makes in a folder: all of them or none."""
    os.makedirs(output, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as folder:
        with open(os.path.join(folder, f"{name}.json"), "w") as file:
            json.dump({**facts, "rows": rows}, file, indent=1, ensure_ascii=False)
            file.write("\n")
        names = draw(folder)
        with open(os.path.join(folder, f"{name}.md"), "w") as file:
            file.write(describe(facts, rows, names).rstrip("\n") + "\n")
        for done in [*names, f"{name}.json", f"{name}.md"]:
            os.replace(os.path.join(folder, done), os.path.join(output, done))


def write(chosen, comparison, versions, rows):
    """Writes `peers.json`, `peers.md` and the charts."""
    add_shares(rows, comparison.machine)
    facts = facts_of("bench-peers", chosen, comparison.machine, chosen.threads) | {
        "rounds": comparison.rounds,
        "seconds_a_round": comparison.seconds,
        "versions": {"Python": platform.python_version(), **versions},
        "left_out": comparison.missing,
        "bounds": {dtype: {"largest": a, "rms": b} for dtype, (a, b) in BOUNDS.items()},
    }

    def draw(folder):
        return charts.draw_peers(facts, rows, folder)

    write_whole(chosen.output, "peers", facts, rows, draw, markdown)


def markdown(facts, rows, charts_made):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    bounds = "; ".join(
        f"{dtype} {bound['largest']:.0e} of the largest entry, {bound['rms']:.0e} rms"
        for dtype, bound in facts["bounds"].items())
    text = [
        "# fattn and its peers on the CPU", "", *origin(facts), f"{versions}.", "",
        f"The same inputs for all, from N(0, 1); {facts['rounds']} rounds in which the contestants take "
        "turns (more where they disagree, fewer where time was short), at least "
        f"{facts['seconds_a_round']} s and one run each; the median of the rounds' medians. Every result "
        "is compared first with that of fattn in F32, which is itself held to an FP64 oracle in every turn; "
        f"bounds: {bounds}. What disagrees is not timed. Where a peer offers several ways, the fastest of "
        "those that agree is taken, and named below. GFLOP/s count 4·B·H·Nq·Nk·D operations forward, half of "
        "it when causal, 2.5 times it backward. The speed of memory is the best of what was measured beside "
        "the same case.", "",
    ]
    for name, reason in facts["left_out"].items():
        text += [f"Left out: {name}: {reason}", ""]
    for chart in charts_made:
        text += [f"![{chart}]({chart})", ""]
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        squares, decodes = (
            [row for row in rows if row["dtype"] == dtype and case_of(row).is_decode == wanted]
            for wanted in (False, True))
        for heading, chosen, cell in (
            ("GFLOP/s and share of the peak", squares, _speed),
            ("decoding: GB/s of K and V and share of memory's", decodes, _bandwidth),
        ):
            if chosen:
                text += [f"## {dtype.upper()}, {heading}", "", *_table(chosen, cell), ""]
    return "\n".join(text + _notes(rows))


def _speed(row):
    return f"{row['gflops']:.0f} ({row['peak_fraction'] * 100:.0f} %)"


def _bandwidth(row):
    return f"{row['key_value_gbps']:.1f} ({row['bandwidth_fraction'] * 100:.0f} %)"


def _table(rows, cell):
    """A line for each case; the last column is how many times as fast as the best peer fattn is."""
    by_case = {}
    for row in rows:
        by_case.setdefault(case_of(row), {})[row["contestant"]] = row
    names = [name for name in CONTESTANTS if any(name in entries for entries in by_case.values())]
    lines = [
        "| B,H,N,D | mask | pass | " + " | ".join(names) + " | fattn to the best peer |",
        "|---|---|---|" + "---|" * (len(names) + 1),
    ]
    for case, entries in by_case.items():
        times = {name: row["median_s"] for name, row in entries.items() if "median_s" in row}
        best = min(times.values(), default=0)
        cells = []
        for name in names:
            row = entries.get(name)
            text = "" if row is None else "not timed" if "median_s" not in row else cell(row)
            cells.append(f"**{text}**" if row and row.get("median_s") == best else text)
        others = [time for name, time in times.items() if name != "fattn"]
        ratio = f"{min(others) / times['fattn']:.2f}" if others and "fattn" in times else ""
        lines.append(
            f"| {case.label} | {case.mask} | {case.direction} | " + " | ".join(cells) + f" | {ratio} |")
    return lines


def _notes(rows):
    """Which of a peer's ways was the fastest how often, and what was wrong. The JSON says it of each row."""
    ways, faults = collections.Counter(), []
    for row in rows:
        if "failure" in row:
            faults.append(f"- Not timed: {title(row)}: {row['failure']}.")
        faults += [f"- Left out: {title(row)}: {fault}." for fault in row.get("disagreed", [])]
        if "variants_tried" in row:
            ways[f"{row['contestant']}: {row['variant']}"] += 1
    text = ["## What ran", "", "The way of a peer that was the fastest, and in how many cases:", ""]
    text += [f"- {way}: {count}." for way, count in sorted(ways.items())]
    return [*text, *faults]
