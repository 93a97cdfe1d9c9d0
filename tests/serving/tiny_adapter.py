"""A packaged adapter as small as the seat's protocol allows: what belongs to which base, and weights or none."""

import json
from pathlib import Path

import mlflow.models
import mlflow.pyfunc
from safetensors.numpy import load_file


class Tiny(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        config = json.loads(Path(context.artifacts["config"]).read_text())
        if config["broken"]:
            raise RuntimeError("this version is broken on purpose")
        self.base, self.revision = config["base"], config["revision"]
        self.tokenizer_digest, self.lora = config["tokenizer_digest"], config["lora"]
        self.weights = load_file(context.artifacts["weights"])

    def predict(self, model_input, params=None):
        return model_input


mlflow.models.set_model(Tiny())
