"""Tables of docs/speed.md from the records of the speed benchmarks (see `benchmarks.tables`)."""

from __future__ import annotations

from typing import Any

from benchmarks import rivals, roofline, throughput
from benchmarks.measure import read, read_all, table
from benchmarks.scaling import FIGURES, value

Record = dict[str, Any]


def steps(data: str, benchmark: str = "throughput") -> str:
    """Every way to take a step, per batch size."""
    record = read(benchmark, data)
    lines = [
        f"{name} | {int(size):,} | {span(row)} | {row['triplets_a_second']:,.0f} | {row['times_collapsed']:.1f} | "
        f"{row['peak_bytes'] / 2**30:.2f}"
        for size, ways in record["steps"].items()
        for name, row in ways.items()
    ]
    return table(f"{where(record, data)} | triplets | seconds a step | triplets/s | × collapsed | memory, GiB", lines)


def ratios(data: str) -> str:
    """How many times a collapsed step every other way takes."""
    record = read("throughput", data)
    lines = []
    for name in next(iter(record["steps"].values())):
        rows = [ways[name] for ways in record["steps"].values()]
        if name == "collapsed":
            cells = [f"{1000 * row['median_seconds']:.1f} ms" for row in rows]
        else:
            cells = [f"{row['times_collapsed']:.0f} ×" for row in rows]
        lines.append(" | ".join([name, *cells]))
    sizes = " | ".join(f"{int(size):,} triplets" for size in record["steps"])
    return table(f"a step of the same triplets, {where(record, data)} | {sizes}", lines)


def parts(data: str, benchmark: str = "throughput") -> str:
    """What training does beside its steps."""
    record = read(benchmark, data)
    lines = [
        f"{name} | {span(row)}" + (f" ({row['share']:.1%} of an epoch's steps)" if "share" in row else "")
        for name, row in record["parts"].items()
    ]
    return table(f"{where(record, data)} | seconds", lines)


def bound(data: str) -> str:
    """The collapsed step beside the machine's bound."""
    record = read("roofline", data)
    rates = f"{record['flops_a_second'] / 1e9:.0f} Gflop/s, {record['bytes_a_second'] / 2**30:.1f} GiB/s"
    lines, profiles = [], []
    for size, row in record["steps"].items():
        alone = f"{row['seconds_of_operations']:.4f} | {row['seconds_of_bytes']:.4f}"
        lines.append(f"{int(size):,} triplets | {span(row)} | {alone} | {row['times_bound']:.2f}")
        shares = ", ".join(f"`{name}` {share:.0%}" for name, share in row["profile"].items())
        profiles.append(f"{int(size):,} triplets by operator: {shares}.")
    head = f"{where(record, data)}: {rates} | seconds | operations alone | bytes alone | × the bound"
    low = f"A matrix product in bfloat16 takes {record['bfloat16_times_float32']:.2f} times that in float32."
    whole, product, search = (span(record["ranking"][part], 2) for part in ("all", "product", "search"))
    ranked = f"All users ranked: {whole} s; the product alone {product} s, the search alone {search} s."
    return "\n\n".join([table(head, lines), low, *profiles, ranked])


def accuracy(data: str) -> str:
    """Whole-process seconds to each target."""
    record = read("time_to_accuracy", data)
    lines = [
        f"{name} (`--set {' --set '.join(row['options'])}`) | {row['target']:.4f} | {row['test']:.4f} | "
        f"{span(row, 1)} | {row['learned_values']:,}"
        for name, row in record["targets"].items()
    ]
    head = f"{where(record, data)}, preset `{record['preset']}`"
    return table(f"{head} | target N@20 | test N@20 | seconds | learned values", lines)


def growth(name: str) -> str:
    """Seconds and memory as the data grows, each beside what the cost model counts."""
    record = read("scaling", name)
    lines = []
    for varied, sweep in record["sweeps"].items():
        for row in sweep["points"]:
            epoch, update, basis = model(row)
            of_epoch, of_update = row["seconds_an_epoch"], row["seconds_an_update"]
            epochs = f"{of_epoch:.1f} | {epoch / of_epoch / 1e9:.1f}"
            updates = f"{of_update:.2f} | {update / of_update / 1e9:.1f}"
            memory = f"{row['peak_bytes'] / 2**30:.2f} | {basis / 2**30:.2f}, {row['basis']}"
            lines.append(f"{varied} | {value(varied, row):,} | {epochs} | {updates} | {memory}")
        slopes = (sweep["exponents"][figure] for figure in FIGURES)
        seconds, update_seconds, peak = ("" if slope is None else f"**{slope:.2f}**" for slope in slopes)
        lines.append(f"{varied} | exponent | {seconds} | | {update_seconds} | | {peak} |")
    head = f"varied, {where(record, 'planted')} | value | s an epoch | Gflop/s | s an update | Gflop/s"
    return table(f"{head} | peak, GiB | basis, GiB", lines)


def whole_process() -> str:
    """What `c2f-dgl train` takes from start to end, and what it reaches."""
    lines = []
    for record in read_all("whole_process").values():
        test, n = record["test"], record["users_drawn"]
        lines.append(
            f"{record['data']}, `{record['preset']}` | {record['seconds']:.0f} | {record['processor_seconds']:.0f} | "
            f"{record['peak_bytes'] / 2**30:.2f} | {test['ndcg@20']:.4f} / {test['recall@20']:.4f} | "
            f"{record['parameters']['total']:,} | {'all' if n is None else f'{n:,}'}"
        )
    head = " | seconds | processor seconds | peak GiB | test N@20 / R@20 | learned values | users ranked for"
    return table(head, lines)


def prepared() -> str:
    """How fast logs of text ids are prepared, and read."""
    lines = []
    for point in read("scaling", "prepare")["points"]:
        megabytes = f"{point['bytes_of_log'] / 1e6:,.0f} | {point['bytes_prepared'] / 1e6:,.0f}"
        ways = [
            f"{row['seconds']:.0f} ({row['processor_seconds']:.0f}) | {row['rows_a_second']:,.0f} "
            f"({point['rows'] / row['processor_seconds']:,.0f}) | {row['peak_bytes'] / 2**30:.1f}"
            for row in (point["prepare"], point["read"])
        ]
        lines.append(" | ".join([f"{point['rows']:,} rows, {point['form']}", megabytes, *ways]))
    columns = " | ".join(f"{way}, seconds | rows a second | peak memory, GiB" for way in ("prepare", "read"))
    return table(f"log | MB | MB prepared | {columns}", lines)


def model(row: Record) -> tuple[float, float, float]:
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
    bounds = [f"{int(n):,} triplets {row['times_bound']:.2f}" for n, row in record["roofline"]["steps"].items()]
    whole = f"× the bound: {', '.join(bounds)}. Preset `fast`, whole process: {record['fast']['seconds']:.1f} s."
    return "\n\n".join([steps(data, "gpu"), parts(data, "gpu"), whole])


def span(row: Record, digits: int = 4) -> str:
    """Median, and least to most, of some seconds."""
    return f"{row['median_seconds']:.{digits}f} ({row['least']:.{digits}f} to {row['most']:.{digits}f})"


def where(record: Record, data: str) -> str:
    """Data, and the GPU or the processor and threads of a record."""
    machine = record["machine"]
    if record.get("device") == "cuda":
        return f"{data}, {machine['gpu']}"
    return f"{data}, {machine['processor']}, {machine['threads']} threads"
