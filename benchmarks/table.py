"""One table of ratios from a pytest-benchmark file, ours against the best peer: usage table.py FILE.

A group is one question; in it the benchmarks whose name contains "margincore" are ours (one per variant, such as a
thread count), the others are peers that gave the same answer.  Where a peer works on fewer items than we do, both say
how many in `extra_info["items"]` and times are compared per item.
"""

import json
import re
import sys
from typing import Any

# Least ratio, peer over ours, by words of the group's name (first fitting row counts): against the best peer, or
# against the peers whose name contains a word.  Sources: the project's performance goals; ratios of one run on one
# machine, same thread count.
GOALS: list[tuple[str, list[tuple[str, float]]]] = [
    (r"implied vol.*(one call|single)", [("", 2.5)]),
    (r"implied vol", [("", 15.0)]),
    (r"greeks.*(chain|200)", [("", 5.0)]),
    (r"greeks.*(one call|single)", [("", 1.4)]),
    (r"greeks", [("numba", 6.0), ("", 3.0)]),
    (r"(reval|grid).*(1,?000|ndtr)", [("numpy", 5.0)]),
    (r"reval|grid", [("", 6.0)]),
    (r"panel", [("numba", 4.0)]),
    (r"stream", [("empty", 0.8)]),
    (r"fit|likelihood", [("arch", 15.0), ("scipy", 4.0)]),
    (r"filter|ewma|garch|gjr", [("numba", 1.4), ("arch", 4.0)]),
    (r"histor.*sparse", [("numpy", 2.5)]),
    (r"histor", [("numpy", 1.0)]),
    (r"(var|es|value at risk).*2,?000", [("numba", 2.5), ("numpy", 3.5)]),
    (r"monte carlo.*generator", [("numpy", 1.2)]),
    (r"monte carlo", [("numpy", 5.0)]),
    (r"one account.*tier", [("", 8.0)]),
    (r"one account", [("numpy", 25.0), ("empty", 1.0 / 6.0)]),
    (r"what.?if", [("empty", 1.0 / 4.0)]),
    (r"(million|1,?000,?000|1m).*tier|tier.*(million|1,?000,?000|1m)|liquidation check",
     [("numba", 1.8), ("numpy", 14.0)]),
    (r"(million|1,?000,?000|1m).*(scenario|account)", [("scipy", 5.0)]),
    (r"tick|sweep", [("sweep", 50.0)]),
    (r"surface", [("scipy", 30.0)]),
]


def per_item(bench: dict[str, Any]) -> float:
    """Median seconds per item."""
    return float(bench["stats"]["median"]) / float(bench.get("extra_info", {}).get("items", 1))


def spelled(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if seconds * scale >= 1.0:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def goals_of(group: str) -> list[tuple[str, float]]:
    return next((goals for pattern, goals in GOALS if re.search(pattern, group, re.I)), [])


def short(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def rows(group: str, benches: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row per goal of the group and fitting peer, or one against the best peer where it has no goal."""
    ours = [bench for bench in benches if "margincore" in bench["name"]]
    peers = sorted((bench for bench in benches if "margincore" not in bench["name"]), key=per_item)
    if not ours:
        return [(group, "-", "-", "-", "-", "-", "no measurement of ours")]
    own = min(ours, key=per_item)
    result = []
    for word, least in goals_of(group) or [("", 0.0)]:
        peer = next((bench for bench in peers if word in bench["name"].lower()), None)
        goal = f">= {least:.3g}x" if least else "-"
        if peer is None:
            result.append((group, short(own["name"]), spelled(per_item(own)), word or "-", "-", "-", goal))
            continue
        ratio = per_item(peer) / per_item(own)
        verdict = "" if not least else "  met" if ratio >= least else "  missed"
        result.append((group, short(own["name"]), spelled(per_item(own)), short(peer["name"]), spelled(per_item(peer)),
                       f"{ratio:.3g}x", goal + verdict))
    return result


def main(path: str) -> int:
    with open(path) as file:
        record = json.load(file)
    groups: dict[str, list[dict[str, Any]]] = {}
    for bench in record["benchmarks"]:
        groups.setdefault(bench["group"] or bench["name"], []).append(bench)
    head = ("question", "ours", "time", "peer", "time", "ratio", "goal")
    table = [head, *(row for group in sorted(groups) for row in rows(group, groups[group]))]
    widths = [max(len(row[at]) for row in table) for at in range(len(head))]
    machine = record.get("machine_info", {})
    print(f"{machine.get('cpu', {}).get('brand_raw', machine.get('processor', ''))}, Python "
          f"{machine.get('python_version', '')}; medians, per item where the number of items differs")
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
