"""The only door to MLflow's registry: submit, champion, promote, roll back, history.

The alias `production` is the truth about who is champion; the tag `stage` mirrors it for readers of
MLflow's older stages. Setting an alias is one transaction, setting two is not: so `previous` is set first
and `production` last, and a kill between the two leaves the champion in its seat.
Not covered here: two promoters at once (MLflow has no compare-and-swap); the `gpu` pool and
max_active_runs=1 keep promoters apart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# One dead server must cost seconds, not the client's default of 259 s a call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from nightshift.errors import NoChampionError, RegistryError
from nightshift.seats import Seat
from nightshift.settings import Settings

PRODUCTION, PREVIOUS = "production", "previous"


@dataclass(frozen=True)
class Version:
    """One registered version of a seat's model."""

    seat: str
    number: int
    run_id: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


class Registry:
    """The registry of one MLflow server. Every method raises RegistryError when it cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        self.uri = settings.mlflow_uri
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    # --- read ------------------------------------------------------------------------------------------

    def champion(self, seat: Seat) -> Version | None:
        """The version that holds `production`, or None if nobody does yet."""
        number = self._aliases(seat).get(PRODUCTION)
        return self.get(seat, int(number)) if number is not None else None

    def get(self, seat: Seat, number: int) -> Version:
        with _reaching(self.uri):
            found = self.client.get_model_version(seat.registered_model, str(number))
        return Version(
            seat=seat.name,
            number=int(found.version),
            run_id=found.run_id or "",
            created_at=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
            tags=dict(found.tags or {}),
            description=found.description or "",
        )

    def load(self, seat: Seat, number: int) -> Any:
        """The packaged model of a version: an object that follows the seat's protocol."""
        with _reaching(self.uri):
            loaded = mlflow.pyfunc.load_model(f"models:/{seat.registered_model}/{number}")
        return loaded.unwrap_python_model()

    def artifact(self, run_id: str, path: str, into: Path) -> Path:
        """A run's artifact, downloaded under `into`."""
        with _reaching(self.uri):
            return Path(
                mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(into))
            )

    def metrics(self, run_id: str) -> dict[str, float]:
        """A run's final metrics."""
        with _reaching(self.uri):
            return dict(self.client.get_run(run_id).data.metrics)

    def history(self, seat: Seat) -> list[dict[str, Any]]:
        """Every move of `production`, oldest first: at, from, to, by, reason, exam_digest."""
        with _reaching(self.uri):
            try:
                model = self.client.get_registered_model(seat.registered_model)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return []
                raise
        moves = sorted((k, v) for k, v in (model.tags or {}).items() if k.startswith("move."))
        return [json.loads(value) for _, value in moves]

    # --- write -----------------------------------------------------------------------------------------

    def submit(self, seat: Seat, *, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
        """Register a run's model as a new version of the seat: a candidate, not yet examined."""
        with _reaching(self.uri):
            try:
                self.client.create_registered_model(seat.registered_model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            created = self.client.create_model_version(
                seat.registered_model, source=model_uri, run_id=run_id, tags={"stage": "None", **tags}
            )
        return self.get(seat, int(created.version))

    def annotate(
        self, seat: Seat, number: int, *, tags: dict[str, str], description: str | None = None
    ) -> None:
        """Write tags, and a description, on a version's page."""
        with _reaching(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(seat.registered_model, str(number), key, value[:5000])
            if description is not None:
                self.client.update_model_version(seat.registered_model, str(number), description=description)

    def promote(
        self, seat: Seat, number: int, *, by: str, reason: str, exam_digest: str = "", action: str = "promote"
    ) -> None:
        """Seat a version: `previous` first, the record of the move, then `production`."""
        self.get(seat, number)
        champion = self._aliases(seat).get(PRODUCTION)
        if champion == str(number):
            return
        move = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "from": int(champion) if champion else None,
            "to": number,
            "by": by,
            "reason": reason,
            "exam_digest": exam_digest,
        }
        key = f"move.{len(self.history(seat)):06d}"
        with _reaching(self.uri):
            name = seat.registered_model
            if champion:
                self.client.set_registered_model_alias(name, PREVIOUS, champion)
            self.client.set_registered_model_tag(name, key, json.dumps(move, ensure_ascii=False))
            self.client.set_registered_model_alias(name, PRODUCTION, str(number))
            self.client.set_model_version_tag(name, str(number), "stage", "Production")
            self.client.set_model_version_tag(name, str(number), "in_production_since", move["at"])
            if champion:
                self.client.set_model_version_tag(name, champion, "stage", "Archived")

    def rollback(self, seat: Seat, *, to: int | None, by: str, reason: str) -> Version:
        """Give the seat back to `to`, or to the version that held it before. Returns the new champion.

        Raises:
            NoChampionError: there is no earlier champion to go back to.
        """
        if to is None:
            previous = self._aliases(seat).get(PREVIOUS)
            if previous is None:
                raise NoChampionError(
                    f"seat {seat.name}: no earlier champion to go back to; name one with --to"
                )
            to = int(previous)
        self.promote(seat, to, by=by, reason=reason, action="rollback")
        return self.get(seat, to)

    def _aliases(self, seat: Seat) -> dict[str, str]:
        with _reaching(self.uri):
            try:
                # get_registered_model, because search_model_versions returns no aliases.
                model = self.client.get_registered_model(seat.registered_model)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
        return {alias: str(version) for alias, version in (model.aliases or {}).items()}


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turns MLflow's errors into ours, with the address and what to do."""
    try:
        yield
    except MlflowException as error:
        raise RegistryError(
            f"MLflow at {uri}: {str(error)[:300]}. `nightshift status` tells whether it is up."
        ) from error
