"""MLflow's server application for tests, in one process: half the CPU of `mlflow server` (the stack's tests run that),
which makes ready in one process what it then starts in a second.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Its job execution starts processes of its own, for features that nobody here asks for.
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
SCRIPT = """
import os, sys
import uvicorn
from mlflow.server import constants
folder, port = sys.argv[1:]
os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder}/mlflow.db"
os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = f"{folder}/artifacts"
os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=int(port), access_log=False)
"""


def command(folder: Path, port: int) -> list[str]:
    """Serves on loopback what it keeps under `folder`."""
    return [sys.executable, "-c", SCRIPT, str(folder), str(port)]
