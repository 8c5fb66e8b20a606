"""Coverage of intervals, size and power of tests, by simulation of studies with known truth.

    python tests/benchmarks/calibration.py [--small] [--json FILE]

Each row is one method in one setting: what it should do, what it did, and the Monte-Carlo error of that. `met` allows
1.5 points and 2.5 such errors. Methods that are not used, since they are known to fail, are simulated as well: the
simulation must be able to see it. The full size writes the table to calibration.md, beside this file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from joblib import cpu_count

sys.path.insert(0, str(Path(__file__).parents[1]))
import calibration_checks as checks
from benchmark_rows import arguments_of
from calibration_checks import Check, Setting
from calibration_runs import ALLOWANCE, MONTE_CARLO, Measure, simulate

TABLE = Path(__file__).with_suffix(".md")
GROUPS, ICCS = (8, 20, 42, 91), (0.0, 0.1, 0.3)
TYPICAL = Setting(20, 0.1)
TITLES = {
    "coverage": "Coverage of 95% intervals",
    "size": "Size of tests at 5%: how often what is not there is found",
    "power": "Power at 5%: how often what is planted is found",
    "broken": "Methods that are not used, and should be found out",
}
AT_LEAST_OR_MOST = {"coverage": "at least", "size": "at most", "power": "at least", "broken": "not"}

Plan = list[tuple[Check, Setting, int]]


def full_plan() -> Plan:
    """Return what is simulated, how often."""
    two = [Setting(n_groups, icc) for n_groups in GROUPS for icc in ICCS]
    six = [Setting(n_groups, 0.1, n_classes=6) for n_groups in GROUPS]
    by_groups = [Setting(n_groups, 0.1) for n_groups in GROUPS]
    plan: Plan = [(checks.intervals, setting, 700) for setting in (*two, *six)]
    plan += [(checks.paired, setting, 2000) for setting in (*two, *six)]
    plan += [(checks.covariates, setting, 2000) for setting in two]
    for check in (checks.in_time, checks.trained_again):
        plan += [(check, setting, 2000) for setting in by_groups]
    for check in (checks.unlinked, checks.driven_by_one):
        plan += [(check, setting, 300) for setting in (*by_groups, Setting(20, 0.3), Setting(20, 0.1, 6))]
    plan += [(checks.splits, TYPICAL, 2000), (checks.unfit, Setting(8, 0.3), 2000)]
    plan += [(checks.through_heads, TYPICAL, 200)]
    for check in POWERFUL:
        plan += [(check, setting, 500) for setting in (TYPICAL, Setting(42, 0.1))]
    return plan


POWERFUL = (
    checks.paired_power,
    checks.in_time_power,
    checks.covariates_power,
    checks.conflict_seen,
    checks.trained_apart,
)


def small_plan() -> Plan:
    """Return a part that takes some seconds."""
    few, many = Setting(8, 0.3), Setting(42, 0.1)
    plan: Plan = [(checks.intervals, Setting(8, 0.1), 60), (checks.intervals, many, 40)]
    plan += [(check, setting, 100) for check in (checks.paired, checks.covariates) for setting in (few, many)]
    plan += [(checks.in_time, TYPICAL, 50), (checks.splits, TYPICAL, 200), (checks.unfit, few, 600)]
    plan += [(check, TYPICAL, 20) for check in (checks.unlinked, checks.driven_by_one, checks.conflict_seen)]
    return plan


def as_row(measure: Measure) -> dict[str, object]:
    """Return a measure as the rows of all benchmarks are."""
    kind, nominal = measure.claim
    return {
        "name": f"{measure.name}: {measure.setting}",
        "ours": measure.observed,
        "peer": nominal,
        "ratio": measure.observed / nominal,
        "goal": f"{AT_LEAST_OR_MOST[kind]} {nominal:g}",
        "met": bool(measure.met),
    }


def as_table(measures: Sequence[Measure]) -> str:
    """Return the measures as a page."""
    parts = [
        "# Calibration",
        f"Printed by `python tests/benchmarks/calibration.py`. Met: within {100 * ALLOWANCE:g} points and "
        f"{MONTE_CARLO:g} Monte-Carlo errors (after the sign) of nominal, on the side that matters; cautious: farther "
        "on the other side. Studies have 400 utterances; through heads 160.",
    ]
    for kind, title in TITLES.items():
        mine = sorted((m for m in measures if m.claim.kind == kind), key=lambda m: m.name)
        if not mine:
            continue
        lines = [
            "| method | setting | nominal | observed | draws | verdict |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for m in mine:
            silent = f", no answer in {m.unanswered:.0%}" if m.unanswered else ""
            lines.append(
                f"| {m.name.removeprefix('interval of ')} | {m.setting} | {m.claim.nominal:g} | {m.observed:.3f} ± "
                f"{m.error:.3f} | {m.n}{silent} | {m.verdict} |"
            )
        parts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    arguments = arguments_of(__doc__, small="few draws in few settings")
    began = time.perf_counter()
    measures = simulate(small_plan() if arguments.small else full_plan(), n_jobs=cpu_count())
    page = as_table(measures)
    print(page)
    print(f"{time.perf_counter() - began:.0f} s")
    if not arguments.small:
        TABLE.write_text(page)
    if arguments.json:
        arguments.json.write_text(json.dumps([as_row(m) for m in measures], indent=2) + "\n")
    sys.exit(0 if all(m.met for m in measures) else 1)


if __name__ == "__main__":
    main()
