"""### One night, end to end

Takes the next day of data, audits it, builds features, retrains every family, examines each candidate
against the Production champion on the same fresh exam, and seats the winner, if there is one.

| task | what it does | if it fails |
|---|---|---|
| `plan` | which night: the form's, else the next one by the data | no new day at the source yet |
| `ingest` | stages the day's rows and the feedback events | the source's file is named with row and column |
| `audit` | Great Expectations; a bad day goes to quarantine | mend the data, run that night again |
| `publish` | the audited day enters the lake in one step | nothing was published |
| `features` | builds features point in time, fills the online store | run again: it goes on |
| `train_…` | per seat, one task per family, one at a time (pool `gpu`) | retried; its MLflow run is closed |
| `gate_…` | per seat, the exam and the verdict | the champion keeps its seat |
| `report` | closes the night | – |

A seat that the lake has no data for is skipped. The DAG runs at midnight (Asia/Seoul), whenever the watch asks for
a retrain, or by hand: **Trigger**, fill in what
you want to differ, go. Every step is a command; the *Rendered templates* tab shows the line to run yourself.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG, Param, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable
from steps import DEFAULTS, ON_CARD, PYTHON, RETRAIN, START, TIMEZONE, TRAINING, command, data_steps, step

from nightshift.settings import PROJECT
from training.families import FAMILIES, of_a_night

CHOSEN = of_a_night(os.environ.get("NIGHTSHIFT_FAMILIES", ""))
SEATS = sorted({family.seat for family in FAMILIES.values()})
NIGHT = "{{ ti.xcom_pull(task_ids='plan')['night'] }}"


with DAG(
    dag_id="nightly",
    doc_md=__doc__,
    description="Retrain, examine, promote",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(os.environ.get("NIGHTSHIFT_SCHEDULE", "0 0 * * *"), timezone=TIMEZONE),
        assets=[RETRAIN],  # type: ignore[list-item]  # Airflow annotates its own serialized form
    ),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["nightshift", "training"],
    params={
        "night": Param(None, type=["null", "string"], format="date", title="Night",
                       description="Data date to run. Empty: the next day that the data have."),
        "families": Param(list(CHOSEN), type="array", items={"type": "string", "enum": list(FAMILIES)},
                          minItems=1, examples=list(FAMILIES), title="Families",
                          description="Which families to train; the default is by NIGHTSHIFT_FAMILIES."),
        "smoke": Param(False, type="boolean", title="Smoke run",
                       description="Seconds instead of quality: to see that everything is wired."),
    },
):  # fmt: skip
    plan = command(
        "plan", "nightshift.intake plan{% if params.night %} --night {{ params.night }}{% endif %}"
    )
    features = data_steps(plan)

    @task
    def families(seat: str, params: dict | None = None) -> list[str]:
        """The families of the seat that were chosen in the form, in the order they are trained."""
        return [name for name in (params or {})["families"] if FAMILIES[name].seat == seat]

    @task.bash(pool="gpu", queue=TRAINING, map_index_template="{{ family }}", cwd=str(PROJECT), **ON_CARD)
    def train(family: str) -> str:
        smoke = "{% if params.smoke %} --smoke{% endif %}"
        return f"exec {PYTHON} -m training.run {family} --night {NIGHT}{smoke}"

    # A seat without data is skipped, its training and so its gate, and nothing else: the report goes on.
    report = step("report", "nightshift.night report", trigger_rule="none_failed_min_one_success")
    features >> report
    for seat in SEATS:
        chosen = families.override(task_id=f"families_{seat}")(seat)
        trained = train.override(task_id=f"train_{seat}").expand(family=chosen)
        # Runs after a failure too: the gate itself says which family is missing.
        words = f"training.examine {seat} --families {{{{ ti.xcom_pull(task_ids='families_{seat}') | join(' ') }}}}"
        # The exam of language models runs them; the others' are arithmetic.
        where = {"queue": TRAINING, **(ON_CARD if seat == "language" else {})}
        gate = step(f"gate_{seat}", words, trigger_rule="all_done_min_one_success", **where)
        features >> trained >> gate >> report
        trained >> report  # a family that failed makes the night fail, even though the gate judged the others
