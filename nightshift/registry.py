"""The only door to MLflow's registry: submit, champion, promote, roll back, history.

The alias `production` is the truth about who is champion; the tag `stage` mirrors it for readers of
MLflow's older stages. Setting an alias is one transaction, a move of the seat is not. So a move is first
written down as started, then `previous` is set, then `production`, last the tags: a kill between any two of
them leaves a champion in the seat, and the next move first finishes or undoes what it finds started.

Moves are made one after another: a lock on a file in NIGHTSHIFT_HOME is held from the first look at the
seat to the last tag, and the kernel lets it go when its holder is killed. A promotion can name the champion
it was decided against, and is refused if another one sits there by then. Not covered: movers with different
homes, on one machine or several, that share an MLflow server (it has no compare-and-swap), and aliases set
by hand in MLflow during a move.

Loading a version runs the code it was packaged with; that is what models-from-code means, so whoever may
register a version may run code wherever it is examined or served. Pickled models are refused: a pickle runs
code that nobody can read first.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
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

from nightshift.errors import NoChampionError, PackageError, RegistryError
from nightshift.seats import Seat
from nightshift.settings import Settings

PRODUCTION, PREVIOUS = "production", "previous"
TAG_LIMIT = 5_000  # MLflow takes 8,000; the page stays readable
REASON_LIMIT = 2_000
MOVE_FIELDS = ("at", "action", "from", "to", "by", "reason", "exam_digest")


@dataclass(frozen=True)
class Version:
    """One registered version of a seat's model."""

    seat: str
    number: int
    run_id: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    ready: bool = True


class Registry:
    """The registry of one MLflow server. Every method raises RegistryError when it cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        self.uri = settings.mlflow_uri
        self._lock_path = settings.home / "moves.lock"
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    # --- read ------------------------------------------------------------------------------------------

    def champion(self, seat: Seat) -> Version | None:
        """The version that holds `production`, or None if nobody does yet."""
        number = _champion(self._model(seat))
        return self.get(seat, number) if number is not None else None

    def get(self, seat: Seat, number: int) -> Version:
        """One version. Raises RegistryError, naming those there are, if it does not exist."""
        with _reaching(self.uri):
            try:
                return _version(seat, self.client.get_model_version(seat.registered_model, str(number)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
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
            PackageError: its package cannot be loaded, or is pickled.
        """
        self.get(seat, number)
        with _reaching(self.uri):
            try:
                # A folder of its own: MLflow would leave a copy under /tmp for every version ever served.
                with TemporaryDirectory(prefix="nightshift-model-") as folder:
                    uri = f"models:/{seat.registered_model}/{number}"
                    return mlflow.pyfunc.load_model(uri, dst_path=folder).unwrap_python_model()
            except Exception as error:  # whatever the package's own code raises while it loads
                if _unreachable(error):
                    raise
                why = f"{type(error).__name__}: {_redacted(str(error))}"
                if _pickled(error):
                    why = "it is pickled, and reading a pickle may run anything; log the model from code"
                raise PackageError(f"seat {seat.name}: version {number} cannot be loaded: {why}") from error

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
        """Every move of `production`, oldest first: at, action, from, to, by, reason, exam_digest."""
        model = self._model(seat)
        champion = _champion(model)
        moves = [move for _, move in _moves(model) if _took_place(move, champion)]
        return [{field: move[field] for field in MOVE_FIELDS} for move in moves]

    # --- write -----------------------------------------------------------------------------------------

    def submit(self, seat: Seat, *, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
        """Register a run's model as a new version of the seat: a candidate, not yet examined."""
        with _reaching(self.uri):
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
                tags={"stage": "None", **tags},
            )
        return self.get(seat, int(created.version))

    def annotate(
        self, seat: Seat, number: int, *, tags: dict[str, str], description: str | None = None
    ) -> None:
        """Write tags, and a description (Markdown), on a version's page."""
        with _reaching(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(
                    seat.registered_model, str(number), key, _cut(value, TAG_LIMIT)
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

    def promote(
        self,
        seat: Seat,
        number: int,
        *,
        by: str,
        reason: str,
        exam_digest: str = "",
        expected: int | EllipsisType | None = ...,
    ) -> None:
        """Give the seat to a version. Does nothing if it sits there already.

        expected: the champion that the version was examined against, None for an empty seat; `...`: anyone.

        Raises:
            RegistryError: there is no such version, it is not ready, no reason is given, or the champion is
                not the expected one any more.
        """
        with self._moving():
            self._settle(seat)
            champion = _champion(self._model(seat))
            if expected is not ... and champion not in (expected, number):
                was, now = (f"v{one}" if one is not None else "nobody" for one in (expected, champion))
                raise RegistryError(
                    f"seat {seat.name}: the champion changed during the exam (was {was}, is {now}); "
                    "run the gate again"
                )
            self._move(seat, number, "promote", by=by, reason=reason, exam_digest=exam_digest)

    def rollback(self, seat: Seat, *, to: int | None, by: str, reason: str) -> Version:
        """Give the seat back to `to`, or to the version that held it before. Returns the new champion.

        The version that loses the seat is tagged `rolled_back` with the reason: the gate does not seat it
        again. A second rollback goes one champion further back, never forward again.

        Raises:
            NoChampionError: there is no earlier champion to go back to.
            RegistryError: `to` does not exist, or holds the seat already.
        """
        with self._moving():
            self._settle(seat)
            model = self._model(seat)
            if to is None:
                to = _alias(model, PREVIOUS)
            if to is None:
                raise NoChampionError(
                    f"seat {seat.name}: no earlier champion to go back to; name one with --to"
                )
            if to == _champion(model):
                raise RegistryError(
                    f"seat {seat.name}: version {to} holds the seat already; nothing was changed"
                )
            self._move(seat, to, "rollback", by=by, reason=reason)
        return self.get(seat, to)

    def settle(self, seat: Seat) -> None:
        """Finish or undo a move that was killed half-way; without one, nothing happens."""
        if _started(self._model(seat)):
            with self._moving():  # waits for a move that is not dead but under way
                self._settle(seat)

    # --- inside ----------------------------------------------------------------------------------------

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """One move at a time among all processes of this home; the others wait."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _settle(self, seat: Seat) -> None:
        model = self._model(seat)
        if not _started(model):
            return
        key, move = _moves(model)[-1]
        if _champion(model) == move["to"]:
            self._finish(seat, key, move)
            return
        self._set_alias(seat, PREVIOUS, move["previous"])
        self._write_move(seat, key, {**move, "state": "abandoned"})

    def _move(
        self, seat: Seat, number: int, action: str, *, by: str, reason: str, exam_digest: str = ""
    ) -> None:
        """Move the seat of which no move is started; the caller holds the lock."""
        if not reason.strip():
            raise RegistryError(f"seat {seat.name}: version {number}: a move needs a reason that can be read")
        version = self.get(seat, number)
        if not version.ready:
            raise RegistryError(f"seat {seat.name}: version {number} is not ready yet; try again in a while")
        model = self._model(seat)
        champion = _champion(model)
        if champion == number:
            return
        move = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "from": champion,
            "to": number,
            "by": by,
            "reason": _cut(reason.strip(), REASON_LIMIT),
            "exam_digest": exam_digest,
            "previous": _alias(model, PREVIOUS),
            "state": "started",
        }
        moves = [*_moves(model), (f"move.{len(_moves(model)):06d}", move)]
        line = succession([each for _, each in moves if _took_place(each, number)])
        self._write_move(seat, *moves[-1])
        self._set_alias(seat, PREVIOUS, line[-2] if len(line) > 1 else None)
        self._set_alias(seat, PRODUCTION, number)
        self._finish(seat, *moves[-1])

    def _finish(self, seat: Seat, key: str, move: dict[str, Any]) -> None:
        """What follows the alias: the tags that mirror it, and the record that the move took place."""
        self.annotate(seat, move["to"], tags={"stage": "Production", "in_production_since": move["at"]})
        if "rolled_back" in self.get(seat, move["to"]).tags:  # somebody wants it back
            with _reaching(self.uri):
                self.client.delete_model_version_tag(seat.registered_model, str(move["to"]), "rolled_back")
        if move["from"] is not None:
            tags = {"stage": "Archived"}
            if move["action"] == "rollback":
                tags["rolled_back"] = f"{move['by']}: {move['reason']}"
            self.annotate(seat, move["from"], tags=tags)
        self._write_move(seat, key, {**move, "state": "done"})

    def _write_move(self, seat: Seat, key: str, move: dict[str, Any]) -> None:
        with _reaching(self.uri):
            text = json.dumps(move, ensure_ascii=False)
            self.client.set_registered_model_tag(seat.registered_model, key, text)

    def _set_alias(self, seat: Seat, alias: str, number: int | None) -> None:
        with _reaching(self.uri):
            if number is not None:
                self.client.set_registered_model_alias(seat.registered_model, alias, str(number))
            else:
                self.client.delete_registered_model_alias(seat.registered_model, alias)

    def _model(self, seat: Seat) -> Any | None:
        """The seat's registered model with its aliases (a search would leave them out); None if not there."""
        with _reaching(self.uri):
            try:
                return self.client.get_registered_model(seat.registered_model)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise


def succession(moves: list[dict[str, Any]]) -> list[int]:
    """Who sat in the seat, in the order in which a rollback gives it back: the last one is the champion.

    A promotion adds to the line; a rollback cuts it back to the version it returned to. A champion that was
    seated by hand, in MLflow itself, is known from the next move's `from`.
    """
    line: list[int] = []
    for move in moves:
        if move["from"] is not None and (not line or line[-1] != move["from"]):
            line.append(move["from"])
        if move["action"] == "rollback":
            line = line[: line.index(move["to"])] if move["to"] in line else line[:-1]
        line.append(move["to"])
    return line


def _moves(model: Any | None) -> list[tuple[str, dict[str, Any]]]:
    """The records of all moves, with their tags' names, oldest first."""
    tags = (model.tags or {}) if model is not None else {}
    return [(key, json.loads(tags[key])) for key in sorted(tags) if key.startswith("move.")]


def _started(model: Any | None) -> bool:
    """Whether the last move is under way, or was killed half-way."""
    moves = _moves(model)
    return bool(moves and moves[-1][1].get("state", "done") == "started")


def _took_place(move: dict[str, Any], champion: int | None) -> bool:
    """Whether the alias was moved: a record still marked as started may have been killed before or after."""
    state = move.get("state", "done")
    return bool(state == "done" or (state == "started" and move["to"] == champion))


def _alias(model: Any | None, alias: str) -> int | None:
    found = (model.aliases or {}).get(alias) if model is not None else None
    return int(found) if found is not None else None


def _champion(model: Any | None) -> int | None:
    return _alias(model, PRODUCTION)


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


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


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
