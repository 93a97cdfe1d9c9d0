"""### Better settings, found while nobody waits

Searches the settings of one family for as long as it is given, on the newest night's own validation days.

| task | what it does | if it fails |
|---|---|---|
| `study` | an Optuna study (pool `gpu`); MLflow has its runs in `nightshift/studies` | retried: it goes on |

The winner is a proposal: the next night trains the family with it, and only if the gate promotes that version do the
settings stay. `nightshift status` says what became of it. The DAG runs by hand (**Trigger**), or by
`NIGHTSHIFT_STUDY_SCHEDULE`, such as `0 9 * * 0` for Sunday mornings.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG, Param
from airflow.timetables.trigger import CronTriggerTimetable
from steps import DEFAULTS, ON_CARD, START, TIMEZONE, TRAINING, command

from training.families import FAMILIES

STUDIED = [name for name, family in FAMILIES.items() if family.studied]
CRON = os.environ.get("NIGHTSHIFT_STUDY_SCHEDULE")

with DAG(
    dag_id="study",
    doc_md=__doc__,
    description="Search a family's settings",
    schedule=CronTriggerTimetable(CRON, timezone=TIMEZONE) if CRON else None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["nightshift", "training"],
    params={
        "family": Param(STUDIED[0], type="string", enum=STUDIED, title="Family", description="Whose settings."),
        "minutes": Param(30, type="number", exclusiveMinimum=0, maximum=300, title="Minutes",
                         description="When to end at the latest."),
    },
):  # fmt: skip
    words = "training.study {{ params.family }} --minutes {{ params.minutes }}"
    study = command("study", words, pool="gpu", queue=TRAINING, **ON_CARD)
