"""The few calls of Airflow's REST API (v2) that a night needs."""

from __future__ import annotations

import time
from typing import Any

import httpx

from nightshift.errors import StackError
from nightshift.settings import Settings

POOLS = {"gpu": "One GPU, one tenant at a time", "lake": "One writer to the lake and the features"}
TRIES = 5  # of a question to Airflow, a second apart: one dropped connection must not end a night


class Airflow:
    """The few calls of Airflow's REST API (v2) that a night needs."""

    def __init__(self, config: Settings) -> None:
        self.http = httpx.Client(base_url=config.airflow_uri, timeout=30, trust_env=False)
        self._logs = config.logs_dir / "api-server.log"
        self._login = {"username": config.airflow_user, "password": config.secret("airflow_password")}
        self._token_until = 0.0

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One API call; the decoded answer. A question is asked again when the connection fails.

        Raises:
            StackError: with Airflow's own words, or that it does not answer.
        """
        if time.monotonic() > self._token_until:
            token = self._send("POST", "/auth/token", json=self._login)
            if token.status_code != 201:
                raise StackError(
                    f"Airflow refused the login of {self._login['username']}: {token.text[:200]}"
                )
            self.http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
            self._token_until = time.monotonic() + 600
        answer = self._send(method, f"/api/v2{path}", **arguments)
        if not answer.is_success:
            raise StackError(f"Airflow: {method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for tries_left in reversed(range(TRIES if method == "GET" else 1)):
            try:
                return self.http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                if not tries_left:
                    where = f"Airflow at {self.http.base_url}"
                    raise StackError(f"{where} does not answer ({error!r:.100}); see {self._logs}") from error
                time.sleep(1)
        raise AssertionError("the last try returns or raises")

    def wait_for_dags(self, names: tuple[str, ...], seconds: float = 120) -> None:
        """Wait until the DAG processor has read the DAGs. Raises StackError with the import errors."""
        deadline = time.monotonic() + seconds
        while True:
            known = {dag["dag_id"] for dag in self.call("GET", "/dags", params={"limit": 200})["dags"]}
            if known >= set(names):
                return
            if time.monotonic() > deadline:
                errors = self.call("GET", "/importErrors")["import_errors"]
                said = errors[0]["stack_trace"].strip().splitlines()[-1] if errors else "no import errors"
                raise StackError(f"Airflow did not find the DAGs {set(names) - known}: {said}")
            time.sleep(0.5)

    def prepare(self, names: tuple[str, ...]) -> None:
        """The one-slot pools (without them tasks wait for ever), and the DAGs unpaused."""
        known = {pool["name"] for pool in self.call("GET", "/pools")["pools"]}
        for name, description in POOLS.items():
            if name not in known:
                pool = {"name": name, "slots": 1, "description": description, "include_deferred": False}
                self.call("POST", "/pools", json=pool)
        self.wait_for_dags(names)
        for name in names:
            self.call("PATCH", f"/dags/{name}", json={"is_paused": False})

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id."""
        run = self.call("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def active(self, dag: str) -> dict[str, Any] | None:
        """The run that is going on or waiting, if there is one: a stop in the middle of a night leaves one."""
        found = self.call("GET", f"/dags/{dag}/dagRuns", params={"state": ["running", "queued"], "limit": 1})
        runs: list[dict[str, Any]] = found["dag_runs"]
        return runs[0] if runs else None

    def state(self, dag: str, run: str) -> str:
        return str(self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Task instances of a run, in no particular order."""
        found = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return list(found["task_instances"])

    def log(self, dag: str, run: str, task: str, attempt: int, map_index: int) -> str:
        """A task's log as text."""
        answer = self.call(
            "GET",
            f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}",
            params={"map_index": map_index, "full_content": True},
        )
        content = answer["content"]
        if isinstance(content, str):
            return content
        return "\n".join(
            str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content
        )
