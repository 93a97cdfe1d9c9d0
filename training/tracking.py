"""One training run's page in MLflow: opened, filled, and always closed with what really happened.

A run that is told to stop (SIGTERM, Ctrl-C) ends KILLED, one that breaks ends FAILED with the reason as a tag.
One that is killed outright (SIGKILL, power) cannot say so: the next run of its family closes it as KILLED, at
once if it is of the same night, else when it is older than any task may be; a younger one may be alive.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from nightshift.errors import RegistryError
from nightshift.moves import TAG_LIMIT
from nightshift.settings import PROJECT, settings
from training.lineage import CONTENT
from training.recipe import Package, Trained

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

TASK_TAG = "nightshift.task"
TASK_HOURS = 6  # Airflow stops a task after that; nights are run one at a time
ENVIRONMENT = "lineage/environment.json"
FLUSH_SECONDS = 3.0  # a batch of 100 metrics costs 40 ms, each alone 33 ms


class StoppedError(BaseException):
    """SIGTERM arrived. Not an Exception: nothing between the loop and the run's end may swallow it."""


class Run:
    """An open MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.id = client, run_id
        self._waiting: list[Any] = []
        self._flushed = time.monotonic()

    def params(self, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(self.id, params=[Param(k, str(v)) for k, v in params.items()])

    def tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(k, v[:TAG_LIMIT]) for k, v in tags.items()])

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """A point on each curve `epoch/<metric>`; sent in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(f"epoch/{k}", float(v), now, number) for k, v in metrics.items()]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def results_of(self, metrics: dict[str, float]) -> None:
        """Final figures, by their own names."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items()])

    def figure(self, name: str, figure: Any) -> None:
        self.client.log_figure(self.id, figure, f"figures/{name}")

    @contextmanager
    def nested(self, name: str, tags: dict[str, str]) -> Iterator[Run]:
        """A run under this one. It ends FINISHED, KILLED if it is told to stop, else FAILED.

        A pruned trial is FINISHED, for it was meant to end; its tag `state` tells.
        """
        from optuna import TrialPruned

        own = self.client.get_run(self.id)
        above = {
            "mlflow.parentRunId": self.id,
            TASK_TAG: own.data.tags[TASK_TAG],
        }  # an orphan is closed with it
        created = self.client.create_run(own.info.experiment_id, run_name=name, tags={**above, **tags})
        run, status = Run(self.client, created.info.run_id), "FAILED"
        try:
            yield run
            status = "FINISHED"
        except TrialPruned:
            status = "FINISHED"
            raise
        except (StoppedError, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            run.flush()
            self.client.set_terminated(run.id, status)

    def flush(self) -> None:
        if self._waiting:
            self.client.log_batch(self.id, metrics=self._waiting)
        self._waiting, self._flushed = [], time.monotonic()

    def results(self, trained: Trained, digest: str, source: str) -> None:
        """Final figures as `val_<metric>`, measures, pictures, tables, folders, the features used and their reference,
        the data's digest."""
        import mlflow.data
        from mlflow.entities import DatasetInput, InputTag, Metric

        self.flush()
        now = int(time.time() * 1000)
        metrics = [Metric(f"val_{k}", float(v), now, 0) for k, v in trained.metrics.items()]
        metrics += [Metric(k, float(v), now, 0) for k, v in trained.measures.items()]
        self.client.log_batch(self.id, metrics=metrics)
        for name, figure in trained.figures.items():
            self.client.log_figure(self.id, figure, f"figures/{name}")
        for name, table in trained.tables.items():
            self.client.log_table(self.id, table, f"tables/{name}.json")
        for name, kept in trained.folders.items():
            self.client.log_artifacts(self.id, str(kept), name)
        self.client.log_dict(self.id, {"features": trained.features}, "features/features.json")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "reference.parquet"
            trained.reference.to_parquet(path, index=False)
            self.client.log_artifact(self.id, str(path), "features")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it guesses the kind of source twice, and says so
            # MLflow takes digests of at most 36 characters; the tag beside it has all of it.
            data = mlflow.data.from_pandas(  # type: ignore[attr-defined]
                trained.data, source=source, name=trained.table, digest=digest[:36]
            )
        tags = [InputTag("mlflow.data.context", "training"), InputTag("lake_digest", digest)]
        self.client.log_inputs(self.id, [DatasetInput(data._to_mlflow_entity(), tags)])

    def lineage(self, content: str) -> None:
        """What it was trained on, piece by piece, and what it was trained with: Python, platform, every package."""
        self.client.log_text(self.id, content, CONTENT)
        self.client.log_dict(self.id, surroundings(), ENVIRONMENT)

    def model(self, package: Package) -> str:
        """Log the package as `model`; returns the URI to register."""
        import mlflow.pyfunc
        from mlflow.models import infer_signature

        # Whatever experiment the environment or this process had in mind, the run's own is meant.
        mlflow.set_experiment(experiment_id=self.client.get_run(self.id).info.experiment_id)
        with mlflow.start_run(run_id=self.id):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(package.predictor),
                artifacts={name: str(path) for name, path in package.artifacts.items()},
                signature=infer_signature(package.input_example, package.output_example),
                input_example=package.input_example,
                pip_requirements=package.requirements,
            )
        return str(logged.model_uri)


@contextmanager
def open_run(
    client: MlflowClient, experiment: str, name: str, task: str, tags: dict[str, str]
) -> Iterator[Run]:
    """A run of `task` (`<family>@<night>`); its family's orphans are closed as KILLED.

    Raises:
        RegistryError: MLflow cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for the result
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    previous = signal.signal(signal.SIGTERM, _stop)
    run: Run | None = None
    status = "FAILED"
    try:
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        created = client.create_run(experiment_id, run_name=name, tags={TASK_TAG: task, **tags})
        run = Run(client, created.info.run_id)
        _close_orphans(client, created)
        yield run
        run.flush()
        client.set_terminated(run.id, "FINISHED")
        status = "FINISHED"
    except (StoppedError, KeyboardInterrupt):
        status = "KILLED"
        raise
    except MlflowException as error:
        raise RegistryError(
            f"MLflow refused the training run {task}: {str(error)[:300]}. `nightshift status` tells if it is up."
        ) from error
    except Exception as error:
        if run is not None:
            with suppress(MlflowException):
                client.set_tag(run.id, "error", f"{type(error).__name__}: {error}"[:5000])
        raise
    finally:
        if run is not None and status != "FINISHED":
            # An MLflow that is away is what broke the run, as like as not; the next run of the task closes it then.
            with suppress(MlflowException):
                client.set_terminated(run.id, status)
        signal.signal(signal.SIGTERM, previous)


def _close_orphans(client: MlflowClient, started: MlflowRun) -> None:
    """Close what the family's killed runs left RUNNING; ages are by the start times that MLflow keeps."""
    task = started.data.tags[TASK_TAG]
    too_old = started.info.start_time - TASK_HOURS * 3_600_000
    query = f"tags.`{TASK_TAG}` LIKE '{task.partition('@')[0]}@%' and attributes.status = 'RUNNING'"
    for other in client.search_runs([started.info.experiment_id], query):
        same_night = other.data.tags[TASK_TAG] == task and other.info.run_id != started.info.run_id
        if same_night or other.info.start_time < too_old:
            client.set_terminated(other.info.run_id, "KILLED")


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise StoppedError


def surroundings() -> dict[str, Any]:
    """Python, the platform and the version of every installed package: what a rerun would have to match."""
    packages = {found.name: found.version for found in distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda one: one[0].lower())),
    }


def code_tags() -> dict[str, str]:
    """git_commit, and whether the working tree differed from it (`dirty`).

    Outside of git what NIGHTSHIFT_COMMIT says, which an image has from when it was built; else "unknown".
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit, changed = git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        told = settings().commit
        if told is None:
            return {"git_commit": "unknown", "dirty": "unknown"}
        commit, changed = told.removesuffix("-dirty"), told.endswith("-dirty")
    return {"git_commit": commit, "dirty": str(changed).lower(), "mlflow.source.git.commit": commit}
