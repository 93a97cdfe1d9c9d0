"""How often the gate errs, beside three simpler rules, where the truth is known.

    python -m benchmarks.gate_calibration [--quick] [--data FOLDER] [--figures docs/img]

1,000 simulated nights each (--quick: 200) of a candidate that is equal to the champion, truly worse by 1, 2 and 5 %,
truly better by 1, 2 and 5 %, and 5 % better but broken on one slice; and twenty nights of tiny losses in a row. Each
night is judged by the real `training.gate.decide` with the recommender's policy, as one of as many candidates as the
seat has families, and by: always promote, the higher metric wins, within 1 % tolerance. Units come from pools whose
truth is exact: of the market, and with --data, of Online Retail's day files. The forecaster's seat is played with made
errors. Prints tables, and last one line of JSON; docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.commands import plain, quiet_libraries, run_command
from nightshift.errors import SourceError

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.calibration.pools import Pool
    from benchmarks.calibration.scenarios import Outcome
    from benchmarks.calibration.topics import Contest

PROCESSES = 2  # each with pools of its own, so that no figure hangs on one world


@dataclass(frozen=True)
class Size:
    """Over all processes. nights: of each scenario; curve: of each point of the slice curve; chains: ratchets; topics:
    nights of the forecaster's seat. In each process's pool: exams of the market, weeks of the shop."""

    nights: int
    curve: int
    chains: int
    topics: int
    exams: int
    weeks: int


WHOLE = Size(nights=1_000, curve=200, chains=100, topics=1_000, exams=3, weeks=4)
QUICK = Size(nights=200, curve=40, chains=10, topics=100, exams=1, weeks=1)


@dataclass(frozen=True)
class Part:
    """What one process has played of one source. left_out: slices that no candidate was broken on → why."""

    exam_units: int
    units: int
    pairs: dict[str, dict[str, float]]
    outcomes: list[Outcome]
    losses: dict[str, np.ndarray]
    left_out: dict[str, str]


def played(source: str, number: int, size: Size, data: Path | None) -> Part:
    """Build a pool and play this process's share of the nights on it.

    Raises SourceError if the shop's files are not there.
    """
    quiet_libraries()
    from benchmarks.calibration.market import market_pool
    from benchmarks.calibration.retail import retail_pool

    if source == "market":
        return play(market_pool(number, exams=size.exams), number, size)
    assert data is not None
    return play(retail_pool(data, number, exams=size.weeks), number, size)


def play(pool: Pool, number: int, size: Size) -> Part:
    from benchmarks.calibration import ratchet, scenarios
    from training.policy import policy_of

    policy = policy_of(scenarios.SEAT)
    outcomes: list[Outcome] = []
    for found, nights in (
        (scenarios.scenarios(pool, policy), size.nights),
        (scenarios.broken_in_part(pool, policy), size.curve),
    ):
        for scenario in found:
            outcomes += scenarios.play(pool, policy, scenario, max(1, nights // PROCESSES), number)
    losses = ratchet.chains(pool, policy, max(1, size.chains // PROCESSES), number)
    missing = scenarios.left_out(pool, policy)
    return Part(pool.exam_units, pool.units, agreement(pool), outcomes, losses, missing)


def agreement(pool: Pool) -> dict[str, dict[str, float]]:
    """How far two equal models of a pool agree, what real ones do, and what +5 % of the primary metric is elsewhere."""
    from benchmarks.calibration import market, retail
    from benchmarks.calibration.pools import levelled, pairs

    real = (market if pool.source == "market" else retail).MEASURED
    better = [levelled(pool, 0.05, seed=seed) for seed in pool.seeds]
    usual = [levelled(pool, 0.0, seed=seed) for seed in pool.seeds]
    found = pairs(pool, real)
    for metric, row in found.items():
        row |= dict(zip(("real_level", "real_correlation", "real_relative_sd"), real[metric], strict=True))
        row["at_plus5"] = sum(m.truth(metric) for m in better) / sum(m.truth(metric) for m in usual) - 1
    return found


def topics_played(number: int, nights: int) -> dict[Contest, list[bool]]:
    """This process's share of the forecaster's nights."""
    quiet_libraries()
    from benchmarks.calibration.topics import promotions

    return promotions(max(1, nights // PROCESSES), number)


def forecaster_figures(parts: Sequence[dict[Contest, list[bool]]]) -> list[dict[str, Any]]:
    """How often an equal forecaster and a better one were promoted, by topics and by how much they have in common."""
    from benchmarks.calibration import rules, topics
    from benchmarks.calibration.shares import share

    rivals = rules.rivals_of(topics.SEAT)
    return [
        {**asdict(contest), "rivals": rivals, **share([one for part in parts for one in part[contest]])}
        for contest in parts[0]
    ]


def measured(parts: Sequence[Part]) -> dict[str, Any]:
    """A source's figures from all processes' nights."""
    from benchmarks.calibration import report, rules, scenarios

    found = report.figures(
        [one for part in parts for one in part.outcomes], report.merged(part.losses for part in parts)
    )
    keys = parts[0].pairs
    pairs = {
        metric: {name: sum(part.pairs[metric][name] for part in parts) / len(parts) for name in row}
        for metric, row in keys.items()
    }
    return {
        "exam_units": round(sum(part.exam_units for part in parts) / len(parts)),
        "pool_units": [part.units for part in parts],
        "rivals": rules.rivals_of(scenarios.SEAT),
        "intervals": report.GIVEN.format(len(parts)),
        **found,
        "by_pool": report.by_pool((part.outcomes, part.losses) for part in parts),
        "slices_left_out": report.left_out([part.left_out for part in parts]),
        "pairs": pairs,
        "bars": report.bars(found),
    }


def calibrate(size: Size, data: Path | None) -> dict[str, Any]:
    """sources: source → figures, of one that is not there the reason; and how the forecaster's seat errs."""
    found: dict[str, Any] = {}
    # Not forked: BLAS has threads by then, and a fork of them can hang.
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {
            source: [pool.submit(played, source, number, size, data) for number in range(PROCESSES)]
            for source in (["market", "online_retail"] if data is not None else ["market"])
        }
        seats = [pool.submit(topics_played, number, size.topics) for number in range(PROCESSES)]
        for source, running in jobs.items():
            try:
                found[source] = measured([job.result() for job in running])
            except SourceError as error:
                found[source] = {"left_out": str(error)}
        forecaster = forecaster_figures([job.result() for job in seats])
    if data is None:
        found["online_retail"] = {"left_out": "give --data, a folder of its day files (YYYY-MM-DD.csv)"}
    return {"sources": found, "forecaster": forecaster}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gate_calibration", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="200 nights each: under a minute on two cores")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="day files of UCI Online Retail")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the plot there")
    options = parser.parse_args()

    from benchmarks.calibration import figures, report

    found = calibrate(QUICK if options.quick else WHOLE, options.data)
    report.show(found["sources"], found["forecaster"])
    if options.figures is not None:
        figures.plot(found["sources"], options.figures / "gate-calibration.png")
    print(json.dumps(plain({**headline(found["sources"]["market"]), **found}), ensure_ascii=False))


def headline(market: dict[str, Any]) -> dict[str, Any]:
    """The figures that the bars are set for and what must be read with them, of the market at its default exam."""
    from benchmarks.calibration import report

    return {key: market[key] for key in (*report.TOLD, *report.BESIDE) if key in market}


if __name__ == "__main__":
    run_command(main)
