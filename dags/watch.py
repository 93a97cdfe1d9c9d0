"""### By day: has the world drifted? Is the new champion worth its seat?

Takes in the newest day as soon as the source has it (never more than one day ahead of the nights), builds its
features and compares them with those the champion was trained on (Evidently; the report is in MLflow under
`nightshift/watch`). If they drifted, the asset `retrain_requested` starts the nightly DAG at once.

`compare` only looks, as `nightshift watch` does by hand; `request_retrain` requests, and is skipped when there is
nothing to request. One request covers three data days, whatever champion they are compared with. Asset events
coalesce, so an event is a wake-up, and the nightly DAG reads the state of the data again.

`outcomes` stands by itself: a champion with whose answers users do less than with those before it, beyond noise, is
rolled back; who, from what to what and why stands in `nightshift history`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable
from steps import DEFAULTS, RETRAIN, START, TIMEZONE, command, data_steps, step

with DAG(
    dag_id="watch",
    doc_md=__doc__,
    description="Compare the newest features with the champion's; judge a new champion by its live outcomes",
    schedule=CronTriggerTimetable(
        os.environ.get("NIGHTSHIFT_WATCH_SCHEDULE", "30 * * * *"), timezone=TIMEZONE
    ),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["nightshift", "monitoring"],
):
    plan = command("plan", "nightshift.intake plan --ahead")
    compare = step("compare", "monitoring.watch")
    request_retrain = command(
        "request_retrain",
        "monitoring.watch --request --night {{ ti.xcom_pull(task_ids='compare')['day'] }}",
        outlets=[RETRAIN],
        skip_on_exit_code=99,  # nothing to request: a skipped task emits no asset event
    )
    data_steps(plan) >> compare >> request_retrain
    command("outcomes", "monitoring.outcomes")  # needs no new day, and must not wait for one
