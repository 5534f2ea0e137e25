"""Tables of the records of crash.py, hindered.py and soak.py, and of what was broken on purpose."""

from __future__ import annotations

from benchmarks.measure import read
from c2f_dgl.bench.table import markdown_table


def crash() -> str:
    """What came of killing each command at random moments and while it wrote, and of giving it once more."""
    counted = ("output in part", "second run failed", "other result", "temporary files left")
    table = []
    for kind, moment in (("crash", "at random"), ("crash-aimed", "while it wrote")):
        rows = read("reliability", kind)["rows"]
        for row in rows:
            table.append([row["command"], moment, row["killed"], *(row[name] for name in counted)])
        table.append(["all", moment, *(sum(row[name] for row in rows) for name in ("killed", *counted))])
    return markdown_table(["command", "killed", "times", *counted], table)


def hindered() -> str:
    """How commands end that cannot write or read what they should."""
    rows, places = read("reliability", "hindered")["rows"], ("full_disk", "read_only", "another user's", "two at once")
    cells = {True: "as it should", False: "not as it should"}
    table = [[row["command"], *(cells[row[place]["as it should"]] for place in places)] for row in rows]
    return markdown_table(["command", *(place.replace("_", " ") for place in places)], table)


def mutations() -> str:
    """Breaks of the code, by room, and how many the tests of the room saw before more were written."""
    breaks = read("reliability", "mutations")["breaks"]
    table = []
    for room in dict.fromkeys(entry["room"] for entry in breaks):
        unseen = [
            f"{entry['break']}: {entry['since']}"
            for entry in breaks
            if entry["room"] == room and entry["seen by"] is None
        ]
        n = sum(entry["room"] == room for entry in breaks)
        table.append([f"{room}/", n, n - len(unseen), "; ".join(unseen) or "–"])
    return markdown_table(["room", "broken", "seen", "not seen (what was done since)"], table)


def soak() -> str:
    """The service under mixed requests and trouble: answers, latency and memory."""
    record = read("reliability", "soak")
    counts, resident = record["counts"], [size / 2**20 for size in record["resident bytes every second"]]
    quarter = len(resident) // 4
    latency = ", ".join(f"{name} {value:,.0f}" for name, value in record["milliseconds"].items())
    idle = record["idle connections"]
    table = [
        ["minutes, requests a second", f"{record['minutes']:g}, {record['requests a second answered']:.0f}"],
        ["load of the machine's cores", f"{record['machine']['load_before']:.1f} on {record['machine']['cores']}"],
        ["answers, of these wrong", f"{counts['answers']:,}, {counts['wrong']}"],
        ["pipelined, of these wrong", f"{counts['pipelined answers']:,}, {counts['pipelined wrong']}"],
        ["sent a few bytes at a time, of these wrong", f"{counts['slow answers']:,}, {counts['slow wrong']}"],
        ["malformed, of these not refused with 400", f"{counts['malformed']:,}, {counts['malformed, not refused']}"],
        ["gone halfway", f"{counts['gone halfway']:,}"],
        ["idle connections, open at the end", f"{idle['opened']}, {idle['open at the end']}"],
        ["milliseconds", latency],
        [
            "MiB resident: at first, most in each quarter",
            ", ".join(f"{x:.0f}" for x in (resident[0], *(max(resident[q * quarter :][:quarter]) for q in range(4)))),
        ],
    ]
    return markdown_table(["soak", None], table)
