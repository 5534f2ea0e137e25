"""Tables of the records of crash.py, hindered.py and soak.py, and of what was broken on purpose."""

from __future__ import annotations

from collections import Counter

from benchmarks.measure import read, table


def crash() -> str:
    """What came of killing each command at random moments and while it wrote, and of giving it once more."""
    counted = ("killed", "output in part", "second run failed", "other result", "temporary files left")
    lines = []
    for kind, moment in (("crash", "at random"), ("crash-aimed", "while it wrote")):
        rows = read("reliability", kind)["rows"]
        for row in [*rows, {"command": "all", **{name: sum(row[name] for row in rows) for name in counted}}]:
            lines.append(" | ".join([row["command"], moment, *(str(row[name]) for name in counted)]))
    return table(" | ".join(["command | killed | times", *counted[1:]]), lines)


def hindered() -> str:
    """How commands end that cannot write or read what they should."""
    places = ("full_disk", "read_only", "another user's", "two at once")
    lines = []
    for row in read("reliability", "hindered")["rows"]:
        ends = ("as it should" if row[place]["as it should"] else "not as it should" for place in places)
        lines.append(" | ".join([row["command"], *ends]))
    return table(" | ".join(["command", *places]).replace("_", " "), lines)


def mutations() -> str:
    """Breaks of the code, by room, and how many the tests of the room saw before more were written."""
    breaks = read("reliability", "mutations")["breaks"]
    lines = []
    for room, n in Counter(entry["room"] for entry in breaks).items():
        of_room = (entry for entry in breaks if entry["room"] == room and entry["seen by"] is None)
        unseen = [f"{entry['break']}: {entry['since']}" for entry in of_room]
        lines.append(f"{room}/ | {n} | {n - len(unseen)} | {'; '.join(unseen) or '–'}")
    return table("room | broken | seen | not seen (what was done since)", lines)


def soak() -> str:
    """The service under mixed requests and trouble: answers, latency and memory."""
    record = read("reliability", "soak")
    counts, resident = record["counts"], [size / 2**20 for size in record["resident bytes every second"]]
    quarter, idle, machine = len(resident) // 4, record["idle connections"], record["machine"]
    latency = ", ".join(f"{name} {value:,.0f}" for name, value in record["milliseconds"].items())
    memory = [resident[0], *(max(resident[q * quarter :][:quarter]) for q in range(4))]
    lines = (
        f"minutes, requests a second | {record['minutes']:g}, {record['requests a second answered']:.0f}",
        f"load of the machine's cores | {machine['load_before']:.1f} on {machine['cores']}",
        f"answers, of these wrong | {counts['answers']:,}, {counts['wrong']}",
        f"pipelined, of these wrong | {counts['pipelined answers']:,}, {counts['pipelined wrong']}",
        f"sent a few bytes at a time, of these wrong | {counts['slow answers']:,}, {counts['slow wrong']}",
        f"malformed, of these not refused with 400 | {counts['malformed']:,}, {counts['malformed, not refused']}",
        f"gone halfway | {counts['gone halfway']:,}",
        f"idle connections, open at the end | {idle['opened']}, {idle['open at the end']}",
        f"milliseconds | {latency}",
        f"MiB resident: at first, most in each quarter | {', '.join(f'{x:.0f}' for x in memory)}",
    )
    return table("soak |", lines)
