"""The only door to MLflow's registry: submit, champion, promote, roll back, history.

The alias `production` is the truth about who is champion; the tag `stage` mirrors it for readers of
MLflow's older stages. How a seat changes hands, step by step, is in nightshift.seating.

Loading a version runs the code it was packaged with; that is what models-from-code means, so whoever may
register a version may run code wherever it is examined or served. Pickled models are refused: a pickle runs
code that nobody can read first.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# A dead server must cost seconds, not the client's default of 259 s a call: 1.5 s when it refuses, 20 s when
# it takes the call and never answers (two tries of 9 s).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "9")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it would break up a step's output
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # no default: the surroundings may not allow it

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import requests
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils import plugins

from nightshift.errors import PackageError, RegistryError
from nightshift.moves import TAG_LIMIT, cut
from nightshift.packages import package_digest
from nightshift.seating import Seating
from nightshift.seats import Seat
from nightshift.settings import Settings
from nightshift.versions import PRODUCTION, SeatState, Version

# What MLflow answers where there is no such model, and where there is one without the alias.
_NOBODY = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def _find_header_providers() -> None:
    """Let MLflow look for its plugins of request headers now, and not see Feast's.

    Feast brings one, for tokens of data sources that we do not have; MLflow's first call would import it, and with it
    all of Feast and torch: 6 s of CPU in every process that asks the registry anything.
    """
    found = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [entry for entry in found(group) if entry.name != "feast"]
    try:
        importlib.import_module("mlflow.tracking.request_header.registry")
    finally:
        plugins.get_entry_points = found


_find_header_providers()


class Registry(Seating):
    """The registry of one MLflow server. Every method raises RegistryError when it cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        self.uri = settings.mlflow_uri
        super().__init__(settings.home / "moves.lock")
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    # --- read ------------------------------------------------------------------------------------------

    def champion(self, seat: Seat) -> Version | None:
        """The version that holds `production`, or None if nobody does yet."""
        with _reaching(self.uri):
            try:
                found = self.client.get_model_version_by_alias(seat.registered_model, PRODUCTION)
            except MlflowException as error:
                if error.error_code not in _NOBODY:
                    raise
                return None
        return _version(seat, found)

    def get(self, seat: Seat, number: int) -> Version:
        """One version. Raises RegistryError, naming those there are, if it does not exist."""
        found = self._find(seat, number)
        if found is not None:
            return found
        known = ", ".join(str(version.number) for version in self.versions(seat)[-10:]) or "none yet"
        raise RegistryError(f"seat {seat.name} has no version {number}; the newest are: {known}")

    def versions(self, seat: Seat, **tags: str) -> list[Version]:
        """The seat's versions that carry all of `tags`, oldest first."""
        wanted = [f"name = '{seat.registered_model}'", *(f"tags.{k} = '{v}'" for k, v in tags.items())]
        found: list[Version] = []
        token: str | None = None
        with _reaching(self.uri):
            while True:
                page = self.client.search_model_versions(" and ".join(wanted), page_token=token)
                found += [_version(seat, version) for version in page]
                token = page.token
                if not token:
                    return sorted(found, key=lambda version: version.number)

    def load(self, seat: Seat, number: int) -> Any:
        """The packaged model of a version: an object that follows the seat's protocol.

        Raises:
            RegistryError: there is no such version.
            PackageError: its package is not the one that was handed in, cannot be loaded, or is pickled.
        """
        # A folder of its own: MLflow would leave a copy under /tmp for every version ever served.
        with _reaching(self.uri), TemporaryDirectory(prefix="nightshift-model-") as folder:
            package = self.package(seat, number, Path(folder))
            try:
                return mlflow.pyfunc.load_model(str(package)).unwrap_python_model()
            except Exception as error:  # whatever the package's own code raises while it loads
                if _unreachable(error):
                    raise
                why = f"{type(error).__name__}: {_redacted(str(error))}"
                if _pickled(error):
                    why = "it is pickled, and reading a pickle may run anything; log the model from code"
                raise PackageError(f"seat {seat.name}: version {number} cannot be loaded: {why}") from error

    def package(self, seat: Seat, number: int, into: Path) -> Path:
        """A version's package as files under `into`, none of its code run; checked against the digest it was handed
        in with. A version from before there were digests is not checked.

        Raises:
            RegistryError: there is no such version.
            PackageError: its files are gone, or are not those that were handed in.
        """
        handed_in = self.get(seat, number).tags.get("package_digest")
        with _reaching(self.uri):
            try:
                uri = f"models:/{seat.registered_model}/{number}"
                package = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into)))
            except Exception as error:  # an artifact store raises what it likes
                if _unreachable(error):
                    raise
                why = f"{type(error).__name__}: {_redacted(str(error))}"
                raise PackageError(
                    f"seat {seat.name}: version {number} cannot be downloaded: {why}"
                ) from error
        if handed_in is not None and package_digest(package) != handed_in:
            raise PackageError(
                f"seat {seat.name}: version {number} is not the package that was handed in: its files have changed "
                f"since. Find out who changed them; train its night again, or `nightshift rollback {seat.name}`"
            )
        return package

    def artifact(self, run_id: str, path: str, into: Path) -> Path:
        """A run's artifact, downloaded under `into`."""
        with _reaching(self.uri):
            return Path(
                mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(into))
            )

    def run(self, run_id: str) -> tuple[str, frozenset[str]]:
        """A run's status, and its artifacts as `folder/file`, those of its model left out. "GONE" if there is none."""
        with _reaching(self.uri):
            try:
                found = self.client.get_run(run_id).info
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return "GONE", frozenset()
            folders = [entry.path for entry in self.client.list_artifacts(run_id) if entry.is_dir]
            files = [
                entry.path
                for folder in folders
                if folder != "model"
                for entry in self.client.list_artifacts(run_id, folder)
            ]
        return (found.status if found.lifecycle_stage == "active" else "GONE"), frozenset(files)

    def metrics(self, run_id: str) -> dict[str, float]:
        """A run's final metrics."""
        with _reaching(self.uri):
            return dict(self.client.get_run(run_id).data.metrics)

    # --- write -----------------------------------------------------------------------------------------

    def submit(self, seat: Seat, *, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
        """Register a run's model as a new version of the seat: a candidate, not yet examined.

        The digest of its package goes along as the tag `package_digest`: what `load` gives later is this package.
        """
        with _reaching(self.uri), TemporaryDirectory(prefix="nightshift-model-") as folder:
            handed_in = mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=folder)
            digest = package_digest(Path(handed_in))
            try:
                self.client.create_registered_model(seat.registered_model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # The server checks that a `models:/m-…` source is the model that the request names by its id.
            model_id = model_uri.removeprefix("models:/") if model_uri.startswith("models:/") else None
            created = self.client.create_model_version(
                seat.registered_model,
                source=model_uri,
                run_id=run_id,
                model_id=model_id,
                tags={"stage": "None", **tags, "package_digest": digest},
            )
        return self.get(seat, int(created.version))

    def annotate(
        self, seat: Seat, number: int, *, tags: dict[str, str], description: str | None = None
    ) -> None:
        """Write tags, and a description (Markdown), on a version's page."""
        with _reaching(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(
                    seat.registered_model, str(number), key, cut(value, TAG_LIMIT)
                )
            if description is not None:
                self.client.update_model_version(seat.registered_model, str(number), description=description)

    def log_metrics(self, run_id: str, metrics: dict[str, float], night: date) -> None:
        """Log figures of one night on a run, dated by the night: its curve then runs over the nights.

        Logging the same figures of the same night again changes nothing.
        """
        at = int(datetime.combine(night, time(), UTC).timestamp() * 1000)
        rows = [Metric(name, value, at, night.toordinal()) for name, value in metrics.items()]
        with _reaching(self.uri):
            self.client.log_batch(run_id, metrics=rows)

    def log_text(self, run_id: str, path: str, text: str) -> None:
        """Write a text file among a run's artifacts; replaces one of the same path."""
        with _reaching(self.uri):
            self.client.log_text(run_id, text, path)

    # --- what the moves are made of ----------------------------------------------------------------------

    def _find(self, seat: Seat, number: int) -> Version | None:
        with _reaching(self.uri):
            try:
                return _version(seat, self.client.get_model_version(seat.registered_model, str(number)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def _state(self, seat: Seat) -> SeatState:
        with _reaching(self.uri):
            try:
                model = self.client.get_registered_model(seat.registered_model)  # a search leaves out aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return SeatState()
        aliases = {alias: int(number) for alias, number in (model.aliases or {}).items()}
        return SeatState(aliases, dict(model.tags or {}), exists=True)

    def _set_alias(self, seat: Seat, alias: str, number: int | None) -> None:
        with _reaching(self.uri):
            if number is not None:
                self.client.set_registered_model_alias(seat.registered_model, alias, str(number))
            else:
                self.client.delete_registered_model_alias(seat.registered_model, alias)

    def _set_tag(self, seat: Seat, key: str, value: str | None) -> None:
        with _reaching(self.uri):
            if value is not None:
                self.client.set_registered_model_tag(seat.registered_model, key, value)
            else:
                self.client.delete_registered_model_tag(seat.registered_model, key)

    def _remove_version_tag(self, seat: Seat, number: int, key: str) -> None:
        with _reaching(self.uri):
            self.client.delete_model_version_tag(seat.registered_model, str(number), key)


def _version(seat: Seat, found: Any) -> Version:
    return Version(
        seat=seat.name,
        number=int(found.version),
        run_id=found.run_id or "",
        created_at=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
        tags=dict(found.tags or {}),
        description=found.description or "",
        ready=found.status in (None, "READY"),
    )


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turns MLflow's errors into ours, with the address and what to do."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        # Redacted before it is cut: half a password would not look like one any more.
        where, said = _redacted(f"MLflow at {uri}"), _redacted(str(error))
        if _unreachable(error):
            advice = "`nightshift status` tells whether it is up"
            raise RegistryError(f"{where} does not answer; {advice} ({said:.200})") from error
        raise RegistryError(f"{where} refused: {said:.300}") from error


def _redacted(text: str) -> str:
    """Without the user and the password of any URI in it."""
    return re.sub(r"(?<=://)[^\s/]*@", "***@", text)


def _pickled(error: Exception) -> bool:
    """Whether MLflow would have had to read a pickle, and did not."""
    return isinstance(error, MlflowException) and "using pickle is disallowed" in str(error)


def _unreachable(error: Exception) -> bool:
    """Whether a call never got an answer; MLflow keeps no better sign of it than its text."""
    return isinstance(error, requests.ConnectionError | requests.Timeout) or "Max retries exceeded" in str(
        error
    )
