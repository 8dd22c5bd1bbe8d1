"""The charts. Colours are those of Okabe and Ito, told apart by any eye, with a hatch beside each."""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend that needs no display

STYLES = {
    "fattn": ("#D55E00", ""), "PyTorch": ("#0072B2", "//"), "ONNX Runtime": ("#56B4E9", ".."),
    "OpenVINO": ("#009E73", "\\\\"),
}
plt.rcParams.update({
    "font.size": 13, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#dddddd", "hatch.linewidth": 0.6,
})


def finish(figure, with_labels, title, footnote, path):
    """Adds what stands around the axes, the same on every chart, and writes the file."""
    inch = 1 / figure.get_figheight()
    handles, labels = with_labels.get_legend_handles_labels()
    figure.suptitle(title, fontsize=16, y=1 - 0.05 * inch).set_in_layout(False)
    figure.legend(
        handles, labels, loc="upper center", ncols=len(labels), frameon=False,
        bbox_to_anchor=(0.5, 1 - 0.35 * inch))
    figure.text(0.995, 0.004, footnote, ha="right", va="bottom", fontsize=10, color="#555555")
    figure.tight_layout(rect=(0, 0.25 * inch, 1, 1 - 0.75 * inch))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def grouped_bars(axes, groups, values):
    """Bars of `values[contestant][group]`; a missing one leaves its place empty."""
    width = 0.84 / len(values)
    for index, (name, heights) in enumerate(values.items()):
        colour, hatch = STYLES[name]
        at = [place - 0.42 + (index + 0.5) * width for place in range(len(groups))]
        axes.bar(
            at, [heights.get(group, 0) for group in groups], width, color=colour, hatch=hatch,
            edgecolor="white", linewidth=0.4, label=name)
    axes.set_xticks(range(len(groups)), [_two_lines(group) for group in groups])


def _two_lines(shape):
    """`B,H` over `N,D`: side by side they would not fit under a bar."""
    parts = shape.split(",")
    return ",".join(parts[:2]) + "\n" + ",".join(parts[2:])


def draw_peers(facts, rows, folder):
    """Writes a chart for each type and one of decoding; returns their file names."""
    from report import case_of  # report imports this module

    timed = [(case_of(row), row) for row in rows if "median_s" in row]
    machine = f"{facts['machine']['cpu']}, {facts['threads']} threads, {facts['date']}"
    names = []
    for dtype in dict.fromkeys(case.dtype for case, _ in timed):
        square = [(case, row) for case, row in timed if case.dtype == dtype and not case.is_decode]
        if square:
            names.append(f"peers-{dtype}.png")
            _draw_squares(square, dtype, machine, os.path.join(folder, names[-1]))
    decode = [(case, row) for case, row in timed if case.is_decode]
    if decode:
        names.append("peers-decode.png")
        _draw_decode(decode, machine, os.path.join(folder, names[-1]))
    return names


def _values(timed, key):
    """`{contestant: {label: value}}`, contestants in the order of the styles."""
    values = {}
    for name in STYLES:
        found = {case.label: key(row) for case, row in timed if row["contestant"] == name}
        if found:
            values[name] = found
    return values


def _draw_squares(timed, dtype, machine, path):
    groups = list(dict.fromkeys(case.label for case, _ in timed))
    figure, grid = plt.subplots(2, 2, figsize=(12, 8.4), sharey=True)
    for line, direction in zip(grid, ("forward", "backward")):
        for axes, mask in zip(line, ("full", "causal")):
            chosen = [(c, r) for c, r in timed if c.direction == direction and c.mask == mask]
            grouped_bars(axes, groups, _values(chosen, lambda row: 100 * row["peak_fraction"]))
            axes.set_title(f"{direction}, {mask if mask == 'causal' else 'no mask'}", fontsize=14)
            axes.tick_params(axis="x", labelsize=11)
    for line in grid:
        line[0].set_ylabel("% of the multiply-add peak")
    finish(figure, grid[0][0], f"Attention on the CPU, {dtype.upper()}; more is better",
           f"Below the bars: B,H over N,D. {machine}", path)


def _draw_decode(timed, machine, path):
    types = list(dict.fromkeys(case.dtype for case, _ in timed))
    figure, grid = plt.subplots(1, len(types), figsize=(12, 5), sharey=True, squeeze=False)
    for axes, dtype in zip(grid[0], types):
        chosen = [(case, row) for case, row in timed if case.dtype == dtype]
        groups = list(dict.fromkeys(case.label for case, _ in chosen))
        grouped_bars(axes, groups, _values(chosen, lambda row: 100 * row["bandwidth_fraction"]))
        axes.set_title(f"{dtype.upper()}", fontsize=14)
        axes.axhline(100, color="#555555", linewidth=0.8)
    grid[0][0].set_ylabel("K and V read, % of memory's speed")
    finish(figure, grid[0][0], "One query against many keys; more is better",
           f"Below the bars: B,H/Hkv over Nq×Nk,D. {machine}", path)


ALGORITHMS = {
    "naive": ("#0072B2", "s"), "online": ("#E69F00", "^"), "fa1": ("#009E73", "D"), "fa2": ("#D55E00", "o"),
}


def draw_growth(facts, rows, folder):
    """Writes a chart for each pass; returns their file names."""
    machine = f"{facts['machine']['cpu']}, {facts['threads']} threads, {facts['date']}"
    names = []
    for direction in ("forward", "backward"):
        chosen = [row for row in rows if row["pass"] == direction]
        names.append(f"growth-{direction}.png")
        _draw_growth(chosen, direction, machine, os.path.join(folder, names[-1]))
    return names


def _draw_growth(rows, direction, machine, path):
    figure, grid = plt.subplots(2, 2, figsize=(12, 9))
    (time, memory), (heads, threads) = grid

    def of(kind):
        return [row for row in rows if row["sweep"] == kind]

    _lines(time, of("length"), lambda row: row["Nq"], lambda row: row["median_s"], "N, one head", "seconds")
    _lines(
        memory, of("length"), lambda row: row["Nq"], lambda row: row["extra_bytes"] / 1e6, "N, one head",
        "extra memory, MB")
    _lines(
        heads, of("heads"), lambda row: row["B"] * row["H"], lambda row: row["median_s"], "B·H, N 1024",
        "seconds")
    _speed_ups(threads, of("threads"))
    finish(
        figure, time, f"How the {direction} pass grows; F32, D 64, no mask", machine, path)


def _lines(axes, rows, x, y, x_label, y_label):
    for name, (colour, marker) in ALGORITHMS.items():
        points = [(x(row), y(row)) for row in rows if row["algorithm"] == name]
        axes.plot(*zip(*points), color=colour, marker=marker, label=name, linewidth=2, markersize=7)
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
    axes.yaxis.set_major_formatter("{x:g}")
    places = sorted({x(row) for row in rows})
    axes.set_xticks(places, [f"{p // 1024}k" if p >= 1024 else str(p) for p in places], minor=False)
    axes.set_xticks([], minor=True)


def _speed_ups(axes, rows):
    """How many times as fast the most threads are as one."""
    shapes = list(dict.fromkeys((row["B"], row["H"], row["Nq"]) for row in rows))
    most = max((row["threads_asked"] for row in rows), default=1)
    times = {
        (row["B"], row["H"], row["Nq"], row["algorithm"], row["threads_asked"]): row["median_s"]
        for row in rows}
    for index, (name, (colour, _)) in enumerate(ALGORITHMS.items()):
        heights = [
            times.get((*shape, name, 1), 0) / times.get((*shape, name, most), float("inf"))
            for shape in shapes]
        axes.bar([at - 0.3 + 0.2 * index for at in range(len(shapes))], heights, 0.18, color=colour)
    axes.axhline(most, color="#555555", linewidth=0.8)
    axes.set_xticks(range(len(shapes)), [f"{H} head{'s' * (H > 1)}, N {N}" for _, H, N in shapes])
    axes.set_ylabel(f"{most} threads, times as fast as 1")
