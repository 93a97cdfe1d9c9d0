"""Several ways of filling a seat, lived side by side through past nights: what each came to, and how sure that is.

python -m training.lives recommender --lives lives.json

The file says which version each way ("life") had in the seat after every night: `names`, the lives in order, and
`nights`, objects with `night`, and a version's number or null per life. Their values per user are what
`training.next_day --version` kept. Nobody in the seat is a service that answers 503: its users found nothing, which
counts as zero.

Intervals are 95 % paired bootstrap intervals that resample users, each with all of their judged days: a customer
who came on ten days is one customer. They say how far the figures would move with other customers. They do not
say how far they would move with other days, or with models of another seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightshift.commands import emit, read_step, run_command
from nightshift.errors import LakeError
from nightshift.seats import Seat, find_seat
from nightshift.settings import Settings, settings
from training.intervals import mean_intervals, seed_from
from training.next_day import CONFIDENCE, DRAWS, KEPT, values_path

HITS = "hr_at_10"  # 1 where the list of ten held something that the user then met for the first time


def compare(
    values: pd.DataFrame, names: Sequence[str], lives: Sequence[Mapping[str, Any]], *, seed: int
) -> dict[str, Any]:
    """What each life came to, every pair's difference, and how its lead in hits over the first grew by the night.

    values: rows of night, version, user_id and KEPT, as `next_day.judge` gives them; every version of a night on the
    same users. names, lives: `names` and `nights` of the file. Of a pair, the later name less the earlier one is told.

    Returns `user_days`, `users`, `nights` (per night: users, and by life hits and summed NDCG@100), `lives`
    (life → hits and means), `differences` ("a - b" → hits, their share of b's hits, and the means' differences, all
    with intervals) and `leads` (life → its cumulative hits beyond the first life's, night by night, with intervals).

    Raises:
        LakeError: a version that served was not judged on its night.
    """
    nights = [str(row["night"]) for row in lives]
    lived = pd.concat([_lived(values, row, name) for row in lives for name in names], ignore_index=True)
    users = sorted(lived["user_id"].unique())
    # [users, nights, metrics] per life: zero where a user was not there that day, in every life alike.
    by_life = {name: _cube(lived[lived["life"] == name], users, nights) for name in names}
    user_days = len(lived) // len(names)
    first = names[0]
    hits, deep = KEPT.index(HITS), KEPT.index("ndcg_at_100")

    def interval(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bootstrap intervals of the column sums of [users, columns]."""
        low, high = mean_intervals(columns, confidence=CONFIDENCE, draws=DRAWS, seed=seed)
        return low * len(users), high * len(users)

    differences: dict[str, Any] = {}
    for one in names:
        for other in names[: names.index(one)]:
            apart = (by_life[one] - by_life[other]).sum(axis=1)
            low, high = interval(apart)
            total, base = apart.sum(axis=0), float(by_life[other][..., hits].sum())
            found: dict[str, Any] = {"hits": float(total[hits]), "hits_interval": (low[hits], high[hits])}
            found["share"] = total[hits] / base if base else None
            found["share_interval"] = (low[hits] / base, high[hits] / base) if base else None
            for at, metric in enumerate(KEPT):
                found[metric] = total[at] / user_days
                found[f"{metric}_interval"] = (low[at] / user_days, high[at] / user_days)
            differences[f"{one} - {other}"] = found
    return {
        "user_days": user_days,
        "users": len(users),
        "nights": [
            {
                "night": night,
                "users": int((values.loc[values["night"] == night, "user_id"]).nunique()),
                "hits": {name: float(by_life[name][:, at, hits].sum()) for name in names},
                "ndcg_at_100": {name: float(by_life[name][:, at, deep].sum()) for name in names},
            }
            for at, night in enumerate(nights)
        ],
        "lives": {name: _totals(by_life[name], user_days, hits) for name in names},
        "differences": differences,
        "leads": {
            name: _lead((by_life[name] - by_life[first])[..., hits].cumsum(axis=1), interval)
            for name in names[1:]
        },
    }


def _lived(values: pd.DataFrame, row: Mapping[str, Any], life: str) -> pd.DataFrame:
    """What the users of one night met in one life."""
    night, version = str(row["night"]), row[life]
    tonight = values[values["night"] == night]
    if version is None:
        met = tonight.drop_duplicates("user_id").assign(**dict.fromkeys(KEPT, 0.0))
    else:
        met = tonight[tonight["version"] == version]
    if met.empty:
        raise LakeError(f"night {night}: version {version} was not judged: run `nightshift backtest` again")
    return met.assign(life=life)[["life", "night", "user_id", *KEPT]]


def _cube(rows: pd.DataFrame, users: list[str], nights: list[str]) -> np.ndarray:
    cube = np.zeros((len(users), len(nights), len(KEPT)))
    place = {user: at for at, user in enumerate(users)}
    night = {name: at for at, name in enumerate(nights)}
    cube[rows["user_id"].map(place), rows["night"].map(night)] = rows[list(KEPT)].to_numpy()
    return cube


def _totals(cube: np.ndarray, user_days: int, hits: int) -> dict[str, float]:
    sums = cube.sum(axis=(0, 1))
    means = {metric: float(sums[at] / user_days) for at, metric in enumerate(KEPT)}
    return {"hits": float(sums[hits]), **means}


def _lead(growing: np.ndarray, interval: Any) -> dict[str, Any]:
    low, high = interval(growing)
    return {"hits": growing.sum(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def read_values(config: Settings, seat: Seat, lives: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The values per user of every night. Raises LakeError for one that was not judged."""
    frames = []
    for row in lives:
        path: Path = values_path(config, date.fromisoformat(str(row["night"])), seat)
        if not path.exists():
            raise LakeError(f"night {row['night']}: {path} is not there: run `nightshift backtest` again")
        frames.append(pd.read_parquet(path))
    return pd.concat(frames, ignore_index=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.lives", description=__doc__)
    parser.add_argument("seat")
    parser.add_argument("--lives", type=Path, required=True, help="which version each life had, by night")
    given = parser.parse_args(arguments)
    config = settings()
    seat = find_seat(given.seat)
    told = json.loads(given.lives.read_text(encoding="utf-8"))
    lives = told["nights"]
    last = date.fromisoformat(lives[-1]["night"])
    judged = read_step(config, last, f"judged-{seat.name}") or {}
    values, seed = read_values(config, seat, lives), seed_from(judged.get("digest", ""))
    result = compare(values, told["names"], lives, seed=seed)
    emit(config, last, f"lives-{seat.name}", result)


if __name__ == "__main__":
    run_command(main)
