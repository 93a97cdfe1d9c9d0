"""A real BentoML process in front of a real MLflow server of its own (these tests stop it and move its alias)."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from nightshift.lake import Lake
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings
from serving.features import AWAY
from tests import mlflow_server
from tests.conftest import TINY_START, free_port, publish_day, tiny_day

ITEMS, USERS = 50, 20


def item_id(number: int) -> str:
    return f"i{number:06d}"  # as the market's, so that its customers know what they are shown


# All is http:// here, and each request would else read all authorities anew.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
PREDICTOR = Path(__file__).with_name("tiny_predictor.py")


@dataclass
class Process:
    """A server that can be stopped and started again on its port."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    health: str
    running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("a") as output:
            self.running = subprocess.Popen(
                self.command, env={**os.environ, **self.environment}, cwd=PROJECT,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: _answers(self.health), 120, lambda: self.log.read_text()[-3000:])

    def stop(self) -> None:
        if self.running is None or self.running.poll() is not None:
            return
        os.killpg(self.running.pid, signal.SIGTERM)
        try:
            self.running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()


def wait_until(true: Callable[[], bool], seconds: float, why: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds} s: {why()}")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, verify=PLAIN).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one published day, so that the data clock says the day after it."""
    home = tmp_path_factory.mktemp("serving_home")
    publish_day(Lake(home / "lake"), tiny_day(TINY_START))
    return home


@pytest.fixture(scope="module")
def mlflow(home: Path) -> Iterator[Process]:
    port = free_port()
    command, environment = mlflow_server.command(home, port), mlflow_server.ENVIRONMENT
    server = Process(command, environment, home / "mlflow.log", f"http://127.0.0.1:{port}/health")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def config(home: Path, mlflow: Process) -> Settings:
    return Settings(_env_file=None, home=home, mlflow_url=mlflow.health.removesuffix("/health"))  # type: ignore[call-arg]


class Packer:
    """Logs tiny models and registers them as versions of a seat."""

    def __init__(self, config: Settings, folder: Path, seat: Seat = RECOMMENDER) -> None:
        from nightshift.registry import Registry

        self.registry = Registry(config)
        self.seat = seat
        self._root = folder

    def folder(self) -> Path:
        folder = self._root / str(time.monotonic_ns())
        folder.mkdir(parents=True)
        return folder

    def log(
        self, predictor: Path, artifacts: dict[str, Path], metrics: dict[str, float], tags: dict[str, str]
    ) -> int:
        import mlflow

        mlflow.set_experiment(f"nightshift/{self.seat.name}")
        with mlflow.start_run() as run:
            mlflow.log_metrics(metrics)
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(predictor),
                artifacts={name: str(path) for name, path in artifacts.items()},
                signature=mlflow.models.infer_signature(pd.DataFrame({"user_id": ["u"]}), np.zeros((1, 2))),
                pip_requirements=["numpy"],
            )
        version = self.registry.submit(
            self.seat, run_id=run.info.run_id, model_uri=logged.model_uri, tags={**tags, "verdict": "promote"}
        )
        return version.number

    def promote(self, number: int) -> None:
        self.registry.promote(self.seat, number, by="test", reason="test")


class Recommenders(Packer):
    """Tables of scores."""

    def submit(self, *, seed: int = 0, broken: bool = False, nonsense: bool = False) -> int:
        folder = self.folder()
        random = np.random.default_rng(seed)
        users = [f"u{n:03d}" for n in range(USERS)]
        met = np.zeros((USERS, ITEMS), np.uint8)
        met[:, :3] = 1
        weights = {
            "scores": random.normal(size=(USERS, ITEMS)).astype(np.float32),
            "popular": np.linspace(1, 0, ITEMS, dtype=np.float32),
            "met": met,
        }
        if nonsense:
            weights["popular"][7] = np.nan
        save_file(weights, folder / "weights.safetensors")
        config = {
            "items": [item_id(n) for n in range(ITEMS)],
            "titles": [f"상품 {n}" for n in range(ITEMS)],
            "categories": [("book", "food")[n % 2] for n in range(ITEMS)],
            "user_features": ["user_features:interactions_28d"],
            "users": users,
            "broken": broken,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return self.log(
            PREDICTOR,
            {"weights": folder / "weights.safetensors", "config": folder / "config.json"},
            {"ndcg_at_10": 0.25},
            {"family": "tiny", "night": "2026-09-01", "exam_ndcg_at_10": "0.31", "exam_users": "17"},
        )


@dataclass
class Service:
    url: str
    process: Process
    before_champion: dict[str, httpx.Response]

    def recommend(self, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/recommend", json={"user_id": "u001", **body}, timeout=10, verify=PLAIN)

    def feedback(self, *events: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.url}/feedback", json={"events": list(events)}, timeout=10, verify=PLAIN)

    def model(self) -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"{self.url}/model", timeout=10, verify=PLAIN).json()
        return body

    def serves(self, number: int) -> bool:
        return bool(self.model()["version"] == str(number))


class Customers:
    """Ask for the same again and again from several threads; remember every answer: when, status, version.

    What is looked for are requests that a swap drops, not a feature store that a busy machine makes late.
    """

    def __init__(self, url: str, path: str, body: dict[str, Any] | None = None, threads: int = 3) -> None:
        self.answers: list[list[tuple[float, int, int | None]]] = [[] for _ in range(threads)]
        self._stop = threading.Event()
        self._url, self._path, self._body = url, path, body
        self._threads = [threading.Thread(target=self._ask, args=(mine,)) for mine in self.answers]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, mine: list[tuple[float, int, int | None]]) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._stop.wait(0.005):  # without a pause they would take the service's core from it
                try:
                    method = "GET" if self._body is None else "POST"
                    answer = client.request(method, self._path, json=self._body)
                    if answer.status_code == 503 and AWAY in answer.text:
                        continue  # a busy machine's store was late, and the service asks to be asked again
                    ok = answer.status_code == 200
                    version = int(answer.json()["model_version"]) if ok else None
                    mine.append((time.monotonic(), answer.status_code, version))
                except httpx.HTTPError:
                    mine.append((time.monotonic(), 0, None))


@pytest.fixture(scope="module")
def tracking(config: Settings) -> Iterator[None]:
    """MLflow's address is one per process: leave it to others as it was."""
    import mlflow

    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)


@pytest.fixture(scope="module")
def packer(config: Settings, tracking: None, tmp_path_factory: pytest.TempPathFactory) -> Recommenders:
    return Recommenders(config, tmp_path_factory.mktemp("packages"))


def serving(config: Settings, seat: Seat) -> tuple[str, Process]:
    """The address and the process of a seat's service, not yet started."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bentoml", "serve", seat.service]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "NIGHTSHIFT_HOME": str(config.home),
        "NIGHTSHIFT_MLFLOW_URL": config.mlflow_uri,
        "NIGHTSHIFT_CHAMPION_POLL_SECONDS": "0.5",
        "NIGHTSHIFT_SERVING_HOSTS": "shop.example",
        "BENTOML_HOME": str(config.home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "TMPDIR": str(config.home / "tmp"),
    }
    (config.home / "tmp").mkdir(exist_ok=True)
    return url, Process(command, environment, config.home / f"{seat.name}.log", f"{url}/livez")


def build_features(config: Settings, night: date) -> subprocess.Popen[bytes]:
    build = [sys.executable, "-m", "feature_repo.build", "--night", night.isoformat()]
    variables = {**os.environ, "NIGHTSHIFT_HOME": str(config.home)}
    return subprocess.Popen(build, env=variables, cwd=PROJECT)


@pytest.fixture(scope="module")
def service(config: Settings, packer: Recommenders) -> Iterator[Service]:
    """The service, started before there is a champion; then version 1 is seated."""
    url, process = serving(config, RECOMMENDER)
    first = packer.submit(seed=1)
    building = build_features(config, TINY_START)
    try:
        process.start()
        service = Service(url, process, {})
        paths = ("livez", "readyz", "model")
        service.before_champion = {path: httpx.get(f"{url}/{path}", timeout=10) for path in paths}
        service.before_champion["recommend"] = service.recommend()
        packer.promote(first)
        wait_until(lambda: service.serves(first), 15, lambda: process.log.read_text()[-3000:])
        assert building.wait(60) == 0
        yield service
    finally:
        building.kill()
        process.stop()
