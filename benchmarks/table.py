"""One table of ratios from a pytest-benchmark file, ours against the best peer: usage table.py FILE.

A group is one question; in it the benchmarks whose name contains "margincore" are ours, the others are peers that gave
the same answer.  What follows a comma in a parameter is a variant, met by peers on the same one.  Where a peer works on
fewer items than we do, both say how many in `extra_info["items"]` and times are compared per item.
"""

import json
import re
import sys
from typing import Any

# Least ratio, peer over ours, by words of the question (first fitting row counts): against the best peer, or against
# the peers in whose name a word begins so ("arch" is not "GARCH").  Ratios of one run on one machine, same threads.
# Where it depends on the width of the vectors there are three, for AVX-512, AVX2 and baseline (0: none is set).
Ratio = float | tuple[float, float, float]
LEVELS = ("v4", "v3", "baseline")
GOALS: list[tuple[str, list[tuple[str, Ratio]]]] = [
    (r"implied vol.*(one call|single)", [("", 2.5)]),
    (r"implied vol", [("", (15.0, 10.0, 4.0))]),
    (r"greeks.*(chain|200)", [("", 5.0)]),
    (r"greeks.*(one call|single)", [("", 1.4)]),
    (r"greeks", [("numba", (6.0, 4.6, 0.0)), ("torch", (3.0, 2.3, 0.0))]),
    (r"revaluation.*1,?000", [("numpy", 5.0)]),
    (r"revaluation|grid", [("", (6.0, 4.0, 0.0))]),
    (r"^filter.*panel", [("numba", 4.0)]),
    (r"^filter", [("numba", 1.4), ("arch", 4.0)]),
    (r"^streaming update, one", [("empty", 0.8)]),
    (r"^maximum likelihood.*normal", [("arch", 15.0), ("scipy", 4.0)]),
    (r"^maximum likelihood", [("arch", 15.0)]),
    (r"^fit .*200 series", [("arch", 20.0)]),
    (r"histor.*(sparse|50 held)", [("numpy", 2.5)]),
    (r"histor", [("numpy", 1.0)]),
    (r"var margin.*one order", [("numba", 2.0), ("numpy", 5.0)]),
    (r"var margin.*1 thread", [("numba", 1.2), ("numpy", 2.0)]),
    (r"(var|es|value at risk).*2,?000", [("numba", 2.5), ("numpy", 3.5)]),
    (r"monte carlo.*generator", [("numpy", 1.2)]),
    (r"monte carlo", [("numpy", 5.0)]),
    (r"one account.*tier", [("numba", 8.0), ("nautilus", 80.0)]),
    (r"one account.*loop", [("numpy", 25.0)]),
    (r"one account", [("empty", 1.0 / 6.0)]),
    (r"what.?if", [("empty", 1.0 / 4.0)]),
    (r"tick|sweep", [("sweep", 50.0)]),
    (r"tier.*1,?000,?000|1,?000,?000.*tier", [("numba", 1.8), ("numpy", 14.0)]),
    (r"1,?000,?000 accounts", [("scipy", 5.0)]),
    (r"^full surface", [("trf", 30.0), ("lm", 0.0)]),
]
# Most seconds that ours may take, on the machine the goals were set on.
LIMITS = [
    (r"^streaming update, 200", 1e-6),
    (r"one account.*loop", 80e-9), (r"var margin.*one order", 1.5e-6),
    (r"liquidation price of an account", 10e-3), (r"surface.*cold", 30e-3),
    (r"surface.*warm", 3e-3), (r"walk-forward", 20.0),
]
TWO_THREADS = 1.8
WHO = "margincore|numpy|numba|scipy|torch|nautilus|iv engine|pure"


def per_item(bench: dict[str, Any]) -> float:
    """Median seconds per item."""
    return float(bench["stats"]["median"]) / float(bench.get("extra_info", {}).get("items", 1))


def spelled(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if seconds * scale >= 1.0:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def shown(bench: dict[str, Any]) -> str:
    """Median per item, and the 99th percentile of single calls where it was taken."""
    late = bench.get("extra_info", {}).get("p99_ns")
    return spelled(per_item(bench)) + ("" if late is None else f", p99 {spelled(late * 1e-9)}")


def first(table: list[tuple[str, Any]], question: str) -> Any:
    return next((entry for pattern, entry in table if re.search(pattern, question, re.I)), None)


def label(bench: dict[str, Any]) -> str:
    """Who was measured: the function where each has its own, such as test_numpy, otherwise the parameter."""
    name = re.sub(r"^test_|\[.*", "", bench["name"]).replace("_", " ")
    param = re.search(r"\[(.*)\]", bench["name"])
    return param.group(1) if param and not re.match(WHO, name) else name


def variant(bench: dict[str, Any]) -> str:
    """What follows the first comma of a label, such as how many positions were held: peers are met on the same."""
    return label(bench).partition(",")[2].strip()


def verdict(ratio: float, least: float) -> str:
    return f">= {least:.3g}x  " + ("met" if ratio >= least else "missed")


def at_level(least: Ratio, level: str) -> float:
    return least[LEVELS.index(level)] if isinstance(least, tuple) else least


def rows(group: str, benches: list[dict[str, Any]], level: str = LEVELS[0]) -> list[tuple[str, ...]]:
    """Rows of one question: per variant of ours one for each goal, or one for the best peer where it has none."""
    ours = [bench for bench in benches if "margincore" in bench["name"]]
    peers = sorted((bench for bench in benches if "margincore" not in bench["name"]), key=per_item)
    result: list[tuple[str, ...]] = []
    for kind in dict.fromkeys(map(variant, ours)):
        own = min((bench for bench in ours if variant(bench) == kind), key=per_item)
        same = [bench for bench in peers if variant(bench) == kind] or peers
        question, time = f"{group} {kind}", per_item(own)
        for word, ratios in first(GOALS, question) or [("", 0.0)]:
            least = at_level(ratios, level)
            begins = re.compile(rf"(?<![a-z]){re.escape(word)}", re.I)
            peer = next((bench for bench in same if begins.search(label(bench))), None)
            head = (group, label(own), shown(own))
            if peer is None:
                result.append((*head, f"no {word or 'peer'} here", "", "", f">= {least:.3g}x" if least else ""))
                continue
            ratio = per_item(peer) / time
            result.append((*head, label(peer), shown(peer), f"{ratio:.3g}x",
                           verdict(ratio, least) if least else ""))
        limit = first(LIMITS, question)
        if limit is not None:
            result.append((group, label(own), spelled(time), "", "", "",
                           f"<= {spelled(limit)}  " + ("met" if time <= limit else "missed")))
    return result or [(group, "none", "", "", "", "", "")]


def across_threads(groups: dict[str, list[dict[str, Any]]]) -> list[tuple[str, ...]]:
    """Two threads against one, for questions that were asked of both."""
    result: list[tuple[str, ...]] = []
    for group, benches in groups.items():
        other = group.replace("1 thread", "2 threads")
        ours = [[per_item(bench) for bench in each if "margincore" in bench["name"]]
                for each in (benches, groups.get(other, []))]
        if other != group and all(ours):
            one, two = map(min, ours)
            result.append((group.replace(", 1 thread", ""), "2 threads", spelled(two), "1 thread", spelled(one),
                           f"{one / two:.3g}x", verdict(one / two, TWO_THREADS)))
    return result


def main(path: str) -> int:
    with open(path) as file:
        record = json.load(file)
    groups: dict[str, list[dict[str, Any]]] = {}
    for bench in record["benchmarks"]:
        groups.setdefault(bench["group"] or bench["name"], []).append(bench)
    head = ("question", "ours", "time", "peer", "time", "ratio", "goal")
    machine = record.get("machine_info", {})
    level = machine.get("level", LEVELS[0])
    table = [head, *(row for group in sorted(groups) for row in rows(group, groups[group], level)),
             *across_threads(groups)]
    widths = [max(len(row[at]) for row in table) for at in range(len(head))]
    print(f"{machine.get('cpu', {}).get('brand_raw', machine.get('processor', ''))}, kernels at {level}, Python "
          f"{machine.get('python_version', '')}; medians, per item where the number of items differs")
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
