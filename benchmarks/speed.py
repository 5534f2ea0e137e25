"""Tables of docs/speed.md from the records of the speed benchmarks (see `benchmarks.tables`)."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import rivals, roofline, throughput
from benchmarks.scaling import FIGURES, value

RESULTS = Path(__file__).parent / "results"


def read(benchmark: str, name: str) -> dict | None:
    """A record, if it is there."""
    path = RESULTS / benchmark / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def absent(command: str) -> str:
    """What stands in place of a table that nobody has measured."""
    return f"Not measured: `python -m benchmarks.{command}`."


def steps(data: str) -> str:
    """Every way to take a step, per batch size."""
    record = read("throughput", data)
    if record is None:
        return absent(f"throughput {data} --parts")
    lines = [
        f"| {where(record, data)} | triplets | seconds a step | triplets/s | × collapsed | memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for size, ways in record["steps"].items():
        for name, row in ways.items():
            lines.append(
                f"| {name} | {int(size):,} | {span(row)} | {row['triplets_a_second']:,.0f} | "
                f"{row['times_collapsed']:.1f} | {row['peak_bytes'] / 2**30:.2f} |"
            )
    return "\n".join(lines)


def ratios(data: str) -> str:
    """How many times a collapsed step every other way takes."""
    record = read("throughput", data)
    if record is None:
        return absent(f"throughput {data} --parts")
    head = " | ".join(f"{int(size):,} triplets" for size in record["steps"])
    lines = [
        f"| a step of the same triplets, {where(record, data)} | {head} |",
        "|---" * (1 + len(record["steps"])) + "|",
    ]
    for name in next(iter(record["steps"].values())):
        rows = [ways[name] for ways in record["steps"].values()]
        cells = [f"{row['times_collapsed']:.0f} ×" for row in rows]
        if name == "collapsed":
            cells = [f"{1000 * row['median_seconds']:.1f} ms" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parts(data: str) -> str:
    """What training does beside its steps."""
    record = read("throughput", data)
    if record is None or "parts" not in record:
        return absent(f"throughput {data} --parts")
    lines = [f"| {where(record, data)} | seconds |", "|---|---|"]
    for name, row in record["parts"].items():
        share = f" ({row['share']:.1%} of an epoch's steps)" if "share" in row else ""
        lines.append(f"| {name} | {span(row)}{share} |")
    return "\n".join(lines)


def bound(data: str) -> str:
    """The collapsed step beside the machine's bound."""
    record = read("roofline", data)
    if record is None:
        return absent(f"roofline {data}")
    head = f"{record['flops_a_second'] / 1e9:.0f} Gflop/s, {record['bytes_a_second'] / 2**30:.1f} GiB/s"
    lines = [
        f"| {where(record, data)}: {head} | seconds | operations alone | bytes alone | × the bound |",
        "|---|---|---|---|---|",
    ]
    for size, row in record["steps"].items():
        lines.append(
            f"| {int(size):,} triplets | {span(row)} | {row['seconds_of_operations']:.4f} | "
            f"{row['seconds_of_bytes']:.4f} | {row['times_bound']:.2f} |"
        )
    lines += ["", f"A matrix product in bfloat16 takes {record['bfloat16_times_float32']:.2f} times that in float32."]
    for size, row in record["steps"].items():
        if "profile" in row:
            shares = ", ".join(f"`{name}` {share:.0%}" for name, share in row["profile"].items())
            lines += ["", f"{int(size):,} triplets by operator: {shares}."]
    if "ranking" in record:
        whole, product, search = (span(record["ranking"][part], 2) for part in ("all", "product", "search"))
        lines += ["", f"All users ranked: {whole} s; the product alone {product} s, the search alone {search} s."]
    return "\n".join(lines)


def accuracy(data: str) -> str:
    """Whole-process seconds to each target."""
    record = read("time_to_accuracy", data)
    if record is None:
        return absent(f"time_to_accuracy {data}")
    lines = [
        f"| {where(record, data)}, preset `{record['preset']}` | target N@20 | test N@20 | seconds | learned values |",
        "|---|---|---|---|---|",
    ]
    for name, row in record["targets"].items():
        lines.append(
            f"| {name} (`--set {' --set '.join(row['options'])}`) | {row['target']:.4f} | {row['test']:.4f} | "
            f"{span(row, 1)} | {row['learned_values']:,} |"
        )
    return "\n".join(lines)


def growth(name: str) -> str:
    """Seconds and memory as the data grows, each beside what the cost model counts."""
    record = read("scaling", name)
    if record is None:
        return absent("scaling")
    lines = [
        f"| varied, {where(record, 'planted')} | value | s an epoch | Gflop/s | s an update | Gflop/s | peak, GiB |"
        " basis, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for varied, sweep in record["sweeps"].items():
        for row in sweep["points"]:
            epoch, update, basis = model(row)
            lines.append(
                f"| {varied} | {value(varied, row):,} | {row['seconds_an_epoch']:.1f} | "
                f"{epoch / row['seconds_an_epoch'] / 1e9:.1f} | {row['seconds_an_update']:.2f} | "
                f"{update / row['seconds_an_update'] / 1e9:.1f} | {row['peak_bytes'] / 2**30:.2f} | "
                f"{basis / 2**30:.2f}, {row['basis']} |"
            )
        slopes = (sweep["exponents"][figure] for figure in FIGURES)
        epoch, update, peak = ("" if slope is None else f"**{slope:.2f}**" for slope in slopes)
        lines.append(f"| {varied} | exponent | {epoch} | | {update} | | {peak} | |")
    return "\n".join(lines)


def model(row: dict) -> tuple[float, float, float]:
    """What the cost model of docs/speed.md counts: operations of an epoch and of an update, bytes of the basis."""
    n, m, d, c = row["users"] + row["items"], row["m"], row["d"], throughput.NEGATIVES + 1
    size = 8192 // throughput.NEGATIVES
    epoch = roofline.needed(size, c, m, d)[0] * row["interactions"] / size
    links = 2 * (row["interactions"] + throughput.T * n)
    update = 2.0 * rivals.LAYERS * links * m + 2 * 2.0 * n * m * d
    bytes_of = {"full": 4, "half": 2, "mapped": 2}
    return epoch, update, (n + m) * m * bytes_of.get(row["basis"], 0)


def gpu(data: str) -> str:
    """Steps, parts and the whole run on a GPU."""
    record = read("gpu", data)
    if record is None:
        return f"The GPU was not measured: `python -m benchmarks.gpu {data}`."
    lines = [f"| {record['machine']['gpu'] or record['device']}, {data} | seconds |", "|---|---|"]
    for size, ways in record["steps"].items():
        for name, row in ways.items():
            rate = f"{row['triplets_a_second']:,.0f} triplets/s"
            lines.append(f"| step, {int(size):,} triplets, {name} | {span(row)} ({rate}) |")
    for size, row in record.get("roofline", {}).get("steps", {}).items():
        lines.append(f"| step, {int(size):,} triplets, × the bound | {row['times_bound']:.2f} |")
    lines += [f"| {name} | {span(row)} |" for name, row in record.get("parts", {}).items()]
    if "fast" in record:
        lines.append(f"| preset `fast`, whole process | {record['fast']['seconds']:.1f} |")
    return "\n".join(lines)


def span(row: dict, digits: int = 4) -> str:
    """Median, and least to most, of some seconds."""
    return f"{row['median_seconds']:.{digits}f} ({row['least']:.{digits}f} to {row['most']:.{digits}f})"


def where(record: dict, data: str) -> str:
    """Data, processor and threads of a record."""
    return f"{data}, {record['machine']['processor']}, {record['machine']['threads']} threads"
