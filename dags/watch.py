"""### By day: has the world drifted?

Takes in the newest day as soon as the source has it (never more than one day ahead of the nights), builds its
features and compares them with those the champion was trained on (Evidently; the report is in MLflow under
`nightshift/watch`). If they drifted, the asset `retrain_requested` starts the nightly DAG at once.

A drift is requested once per champion and day: asset events coalesce, so an event is a wake-up, and the
nightly DAG reads the state of the data again.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException
from airflow.timetables.trigger import CronTriggerTimetable
from steps import DEFAULTS, RETRAIN, START, TIMEZONE, command, data_steps, step

with DAG(
    dag_id="watch",
    doc_md=__doc__,
    description="Compare the newest features with the champion's; ask for a retrain on drift",
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

    @task(outlets=[RETRAIN])
    def request_retrain(seen: Any) -> str:
        """Emits the asset when the watch asks for a retrain; skipping emits nothing."""
        if not seen["drift"] or seen["already_requested"]:
            raise AirflowSkipException(seen["reason"])
        return seen["reason"]

    data_steps(plan) >> compare
    request_retrain(compare.output)
