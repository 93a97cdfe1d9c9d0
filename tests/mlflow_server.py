"""MLflow's server for tests: its handlers in one process, at well under half the CPU of `mlflow server`, which puts
FastAPI and its middleware before them and makes ready in one process what it then starts in a second. The stack's tests
and those in tests/production run that one.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Its job execution starts processes of its own, for features that nobody here asks for.
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
SCRIPT = """
import os, sys
from mlflow.server import constants
folder, port = sys.argv[1:]
os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder}/mlflow.db"
os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = f"{folder}/artifacts"
os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
from mlflow.server import app
from werkzeug.serving import WSGIRequestHandler, make_server

class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def log_request(self, *_):
        pass

make_server("127.0.0.1", int(port), app, threaded=True, request_handler=Quiet).serve_forever()
"""


def command(folder: Path, port: int) -> list[str]:
    """Serves on loopback what it keeps under `folder`."""
    return [sys.executable, "-c", SCRIPT, str(folder), str(port)]
