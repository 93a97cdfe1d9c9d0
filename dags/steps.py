"""What the DAGs share: a task is a command of this project that prints one JSON line last."""

from __future__ import annotations

import json
import os
import shlex
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from nightshift.errors import DATA_ERROR
from nightshift.settings import PROJECT

PYTHON = shlex.quote(os.environ.get("NIGHTSHIFT_PYTHON", "python"))
TIMEZONE = "Asia/Seoul"
TRAINING = (
    "training"  # the queue of those Celery workers that have the card; without Celery there is but one queue
)
RETRAIN = Asset(name="retrain_requested", uri="nightshift://retrain-requested")
# Only slots after the stack's start run by themselves: Airflow would else run the last past one on unpausing.
START = datetime.fromisoformat(os.environ.get("NIGHTSHIFT_SCHEDULE_FROM", "2026-01-01T00:00:00+00:00"))
# On Kubernetes a task that needs the card has its pod made by a template of its own, which asks for one.
TEMPLATE = os.environ.get("NIGHTSHIFT_GPU_POD_TEMPLATE")
ON_CARD: dict[str, Any] = {"executor_config": {"pod_template_file": TEMPLATE}} if TEMPLATE else {}
DEFAULTS = {
    "owner": "data-science",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=6),
}


class Command(BashOperator):
    """A command whose data errors fail at once: the same data fail the same way again."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except AirflowException as error:
            if str(error).rstrip(".").endswith(f"exit code {DATA_ERROR}"):
                raise AirflowFailException("the data are at fault; the reason is the line above") from error
            raise


def step(task_id: str, module: str, *, night_from: str = "plan", **options: Any) -> Command:
    """A task that runs `python -m module --night <the night that task `night_from` printed>`."""
    night = f"--night {{{{ ti.xcom_pull(task_ids='{night_from}')['night'] }}}}"
    return command(task_id, f"{module} {night}", **options)


def command(task_id: str, module: str, **options: Any) -> Command:
    """A task that runs `python -m module`; its last output line, decoded, is its XCom."""
    return Command(
        task_id=task_id,
        bash_command=f"exec {PYTHON} -m {module}",  # exec: a kill reaches Python, not a shell around it
        cwd=str(PROJECT),
        output_processor=json.loads,
        **options,
    )


def data_steps(plan: Command) -> Command:
    """ingest → audit → publish → features behind `plan`; the last one. Both DAGs take a day in this way.

    Each is harmless on a day that is published already. The pool `lake` lets one writer in at a time.
    """
    ingest = step("ingest", "nightshift.intake ingest", pool="lake")
    audit = step("audit", "monitoring.quality", pool="lake")
    publish = step("publish", "nightshift.intake publish", pool="lake")
    features = step("features", "feature_repo.build", pool="lake")
    plan >> ingest >> audit >> publish >> features
    return features
