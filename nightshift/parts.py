"""What the stack consists of: each part's command, its environment, and where it says that it is well.

`nightshift up` starts them all on one machine (`stack.py`); a container is one of them:

    python -m nightshift.parts scheduler      becomes that part: the same command, the same environment
    python -m nightshift.parts migrate        brings Airflow's database to this version's tables
    python -m nightshift.parts open           makes Airflow's pools and unpauses the DAGs
    python -m nightshift.parts ping           whether the Celery worker of this very machine answers

What keeps their state is a setting: SQLite and files under home, or PostgreSQL, Redis and S3, which run already.
No secret is in a command: any user of the machine may read those.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from nightshift.commands import run_command
from nightshift.databases import with_driver
from nightshift.errors import SettingsError, StackError
from nightshift.seats import SEATS, Seat
from nightshift.settings import PROJECT, Settings, settings

CELERY = "CeleryExecutor"
SINGLE = ("mlflow", "api-server", "scheduler", "dag-processor", "triggerer", *SEATS)
SLOTS = 2  # tasks that a Celery worker runs at a time: a training, and what else there is
QUEUES = "default,training"  # the DAGs send training and gates to a queue of their own, for a GPU box
CELERY_APP = "airflow.providers.celery.executors.celery_executor.app"
STORES = (
    "mlflow_backend_url", "eventlog_url", "profiles_url", "feast_registry_url", "online_url",
    "airflow_database_url", "airflow_broker_url",
)  # fmt: skip
DEFAULT_PORTS = {"postgresql": 5432, "redis": 6379, "rediss": 6379}


@dataclass(frozen=True)
class Part:
    """One process of the stack. `port` and `health` are None where it listens to nobody.

    variables: what it alone needs in its environment, secrets among them.
    """

    name: str
    command: list[str]
    port: int | None = None
    health: tuple[str, ...] = ()
    setting: str = ""
    variables: dict[str, str] = field(default_factory=dict, repr=False)


def environment(config: Settings, *, airflow: bool = False) -> dict[str, str]:
    """What a process of ours runs under: every setting, and those of the tools; Airflow's only where it is meant.

    NIGHTSHIFT_* of the surroundings do not get through: `config` is the whole truth.
    """
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("NIGHTSHIFT_")}
    local = [surroundings.get("NO_PROXY") or surroundings.get("no_proxy"), "127.0.0.1,localhost", config.host]
    no_proxy = ",".join(part for part in local if part)
    return {
        **surroundings,
        **config.exportable(),
        **(airflow_environment(config) if airflow else {}),
        "NIGHTSHIFT_STACK": str(config.home),  # by this mark a process is found when its leader has died
        "NIGHTSHIFT_PYTHON": sys.executable,
        "NO_PROXY": no_proxy,  # all that we call is on this machine, proxy or not
        "no_proxy": no_proxy,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes that survive SIGTERM
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": config.mlflow_uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "OMP_NUM_THREADS": surroundings.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "TZ": "UTC",  # Feast's SQLite store keeps times in the local zone: writer and reader must share one
        "PATH": f"{Path(sys.executable).parent}:{surroundings.get('PATH', '')}",
    }


def airflow_environment(config: Settings) -> dict[str, str]:
    """The settings under which Airflow runs here; measured where a comment says so."""
    home = config.home
    values = {
        "CORE__DAGS_FOLDER": PROJECT / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": config.airflow_executor,
        "CORE__PARALLELISM": 4,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{config.airflow_user}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "airflow" / "passwords.json",
        "CORE__EXECUTION_API_SERVER_URL": f"{config.airflow_uri}/execution/",
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": 5,
        "DATABASE__SQL_ALCHEMY_CONN": _airflow_database(config),
        "API__HOST": config.host,
        "API__PORT": config.airflow_port,
        "API__WORKERS": 1,
        "API__BASE_URL": config.airflow_uri,
        "API_AUTH__JWT_SECRET": config.secret("airflow_jwt_secret"),
        "API__SECRET_KEY": config.secret("airflow_jwt_secret"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "LOGGING__BASE_LOG_FOLDER": config.logs_dir / "airflow",
        # With 0.1 s it takes 12 % of a core all day, for nothing; with this a night's chain of tasks waits 2 s longer.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        # The first call to a cold execution API takes 6–7 s, over the default of 5.
        "WORKERS__EXECUTION_API_TIMEOUT": 60,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "WORKERS__MAX_FAILED_HEARTBEATS": 20,
        **(_celery(config) if config.airflow_executor == CELERY else {}),
    }
    return {
        **{f"AIRFLOW__{name}": str(value) for name, value in values.items()},
        "AIRFLOW_HOME": str(home / "airflow"),
        # Only slots after this moment run by themselves; unpausing would else start the last one at once.
        "NIGHTSHIFT_SCHEDULE_FROM": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def _airflow_database(config: Settings) -> str:
    return _sql(config.airflow_database_url, config.home / "airflow" / "airflow.db")


def _sql(given: SecretStr | None, file: Path) -> str:
    """The given URL with the driver that we install (SQLAlchemy's own choice is another one), else SQLite."""
    if given is None:
        return f"sqlite:///{file}"
    return with_driver(make_url(given.get_secret_value())).render_as_string(hide_password=False)


def _celery(config: Settings) -> dict[str, object]:
    """What differs where workers may run on other machines, and may be lost with them."""
    broker = config.airflow_broker_url
    return {
        "CORE__PARALLELISM": 32,  # of the scheduler: how many run at once is up to the workers' slots
        "CELERY__BROKER_URL": broker.get_secret_value() if broker is not None else "",
        "CELERY__RESULT_BACKEND": f"db+{_airflow_database(config)}",
        "CELERY__WORKER_CONCURRENCY": SLOTS,
        # A worker holds what it runs and nothing else, and lets go of it when it is done: what a dead one had not
        # begun is in the queue still. What it had begun is seen by the heartbeats that fail to come, and retried:
        # in 300 s by default, in half a minute so. A task's supervisor sends one each second, whatever the task does.
        "CELERY__WORKER_PREFETCH_MULTIPLIER": 1,
        "CELERY__TASK_ACKS_LATE": True,
        "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": 86_400,  # s; no task of ours may run so long
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 30,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
    }


def mlflow_environment(config: Settings) -> dict[str, str]:
    """What our MLflow server alone is told: its stores, the names it answers to, and its login if there is one.

    The login is MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as its clients have it. The server makes it on
    its first start and keeps it in its database; changed later, it is changed there (docs/running/compose.md).
    """
    folder = config.home / "mlflow"
    values = {
        "MLFLOW_BACKEND_STORE_URI": _sql(config.mlflow_backend_url, folder / "mlflow.db"),
        "MLFLOW_ARTIFACTS_DESTINATION": config.mlflow_artifacts_url or str(folder / "artifacts"),
    }
    if config.mlflow_hosts:  # else MLflow knows this machine's names and private addresses by itself
        names = ["localhost", "127.0.0.1", *(name.strip() for name in config.mlflow_hosts.split(","))]
        known = [pattern for name in names if name for pattern in (name, f"{name}:*")]
        values["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(known)
    if login := _mlflow_login():
        values |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": login[0],
            "MLFLOW_AUTH_ADMIN_PASSWORD": login[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": config.secret("mlflow_session_secret"),
        }
    return values


def _mlflow_login() -> tuple[str, str] | None:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    return (user, password) if user and password else None


def parts(config: Settings) -> list[Part]:
    """The processes in the order they are started."""
    binary = Path(sys.executable).parent
    airflow, told = [str(binary / "airflow")], airflow_environment(config)
    login = ["--app-name", "basic-auth"] if _mlflow_login() else []
    here = f"http://{config.host}"
    celery = config.airflow_executor == CELERY
    return [
        Part(
            "mlflow",
            [str(binary / "mlflow"), "server", "--host", config.host, "--port", str(config.mlflow_port),
             "--workers", "1", *login],
            config.mlflow_port, (f"{here}:{config.mlflow_port}/health",), "mlflow_port", mlflow_environment(config),
        ),
        Part(
            "api-server", [*airflow, "api-server"], config.airflow_port,
            (f"{here}:{config.airflow_port}/execution/health", f"{here}:{config.airflow_port}/api/v2/monitor/health"),
            "airflow_port", told,
        ),
        Part("scheduler", [*airflow, "scheduler", "--skip-serve-logs"], variables=told),
        Part("dag-processor", [*airflow, "dag-processor"], variables=told),
        *([Part("triggerer", [*airflow, "triggerer", "--skip-serve-logs"], variables=told)] if celery else []),
        *(worker(f"worker-{n + 1}", told) for n in range(config.airflow_workers if celery else 0)),
        *(seat_service(config, seat) for seat in SEATS.values()),
    ]  # fmt: skip


def seat_service(config: Settings, seat: Seat) -> Part:
    """The service of a seat."""
    port, bentoml = getattr(config, seat.port), str(Path(sys.executable).parent / "bentoml")
    return Part(
        seat.name,
        [bentoml, "serve", seat.service, "--host", config.host, "--port", str(port)],
        port, (f"http://{config.host}:{port}/livez",), seat.port,
        # A service that starts empties the folder of metrics in it: two must not share one.
        {"BENTOML_HOME": str(config.home / "bentoml" / seat.name)},
    )  # fmt: skip


def worker(name: str, told: dict[str, str], queues: str = QUEUES) -> Part:
    """A Celery worker; told: the environment of Airflow."""
    command = [str(Path(sys.executable).parent / "airflow"), "celery", "worker", "--queues", queues]
    command += [
        "--celery-hostname",
        f"{name}@%h",
        "--skip-serve-logs",
        "--without-mingle",
        "--without-gossip",
    ]
    return Part(name, command, variables=told)


def service_uri(config: Settings, seat: Seat) -> str:
    """Where the seat's service is asked."""
    given = getattr(config, seat.port.replace("_port", "_url"))
    return given or f"http://{config.host}:{getattr(config, seat.port)}"


def part_environment(config: Settings, part: Part) -> dict[str, str]:
    """All that a part runs under."""
    return {**environment(config), **part.variables, "NIGHTSHIFT_PART": part.name}


def prepare(config: Settings) -> None:
    """The folders and files that the parts find under home."""
    config.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = config.home.stat()
    # An image's is open to all, as an engine gives a tmpfs in its place the mode that it finds; a volume's need not be.
    if state.st_mode & stat.S_IWOTH and state.st_uid == os.getuid():
        config.home.chmod(0o700)
    for folder in ("airflow", "mlflow/artifacts", "bentoml", "logs/airflow"):
        (config.home / folder).mkdir(parents=True, exist_ok=True)
    login = json.dumps({config.airflow_user: config.secret("airflow_password")})
    _write_secret(config.home / "airflow" / "passwords.json", login)
    if _mlflow_login():
        # MLflow takes the address of its users' database from a file alone.
        uri = _sql(config.mlflow_backend_url, config.home / "mlflow" / "users.db")
        # Every request brings the password, and its hash is slow on purpose: known for a minute, three requests a
        # second of the services cost next to nothing. A password that is changed is refused a minute later at most.
        lines = [
            "default_permission = READ",
            f"database_uri = {uri.replace('%', '%%')}",
            "auth_cache_ttl_seconds = 60",
        ]
        content = "\n".join(["[mlflow]", *lines, ""])
        _write_secret(config.home / "mlflow" / "auth.ini", content)


def _write_secret(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(content)


def check_stores(config: Settings) -> None:
    """Raises StackError if a database or broker that the settings name cannot be reached, and says which."""
    for name in STORES:
        given: SecretStr | None = getattr(config, name)
        address = urlsplit(given.get_secret_value()) if given is not None else None
        scheme = address.scheme.partition("+")[0] if address is not None else ""
        if address is None or not address.hostname:
            continue
        where = (address.hostname, address.port or DEFAULT_PORTS.get(scheme, 0))
        try:
            socket.create_connection(where, timeout=5).close()
        except OSError as error:
            raise StackError(
                f"{scheme} at {where[0]}:{where[1]} (NIGHTSHIFT_{name.upper()}) cannot be reached: "
                f"{error.strerror or error}"
            ) from None


def migrate(config: Settings) -> None:
    """Bring Airflow's database to this version's tables. Raises StackError with its last words."""
    log = config.logs_dir / "airflow-db.log"
    command = [str(Path(sys.executable).parent / "airflow"), "db", "migrate"]
    with log.open("ab") as handle:
        done = subprocess.run(
            command,
            env=environment(config, airflow=True),
            stdout=handle,
            stderr=handle,
            cwd=PROJECT,
            check=False,
        )
    if done.returncode != 0:
        raise StackError(f"airflow db migrate failed ({done.returncode}); see {log}: {last_words(log)}")


def last_words(log: Path, lines: int = 4) -> str:
    """The end of a log, on one line."""
    if not log.exists():
        return "(empty)"
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nightshift.parts", description=__doc__)
    parser.add_argument("name", choices=(*SINGLE, "worker", "migrate", "open", "ping"))
    parser.add_argument("--queues", default=QUEUES, help="of a worker")
    given = parser.parse_args(arguments)
    config = settings()
    check_stores(config)
    prepare(config)
    if given.name == "migrate":
        migrate(config)
    elif given.name == "open":
        open_airflow(config)
    else:
        become(config, given.name, given.queues)


def become(config: Settings, name: str, queues: str) -> None:
    """Be that part from here on: signals and exit status are its own. Raises SettingsError if there is none."""
    if name == "worker":
        part = worker(name, airflow_environment(config), queues)
    elif name == "ping":
        asked = ["inspect", "ping", "--destination", f"worker@{socket.gethostname()}"]
        celery = [str(Path(sys.executable).parent / "celery"), "-A", CELERY_APP, *asked]
        part = Part(name, celery, variables=airflow_environment(config))
    else:
        found = [part for part in parts(config) if part.name == name]
        if not found:
            raise SettingsError(f"{name} is a part with NIGHTSHIFT_AIRFLOW_EXECUTOR={CELERY} alone")
        part = found[0]
    if name == "mlflow":
        from nightshift.upgrade import bring_mlflow_up

        # A container has no `nightshift up` before it; make a backup before a new version.
        bring_mlflow_up(config)
    os.chdir(PROJECT)
    os.execve(part.command[0], part.command, part_environment(config, part))


def open_airflow(config: Settings) -> None:
    """Airflow's pools, and the DAGs unpaused, as `nightshift up` does. Raises StackError if it does not answer."""
    from nightshift.airflow_api import Airflow
    from nightshift.tonight import DAGS

    Airflow(config).prepare(DAGS)


if __name__ == "__main__":
    run_command(main)
