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
    figure.suptitle(title, fontsize=16, y=1 - 0.05 * inch)
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
