"""RecBole's NeuMF on the paper's split. Runs in an environment of its own (`--recbole`), which has no Nightshift:

    python recbole_neumf.py FOLDER EPOCHS SEED WORK

FOLDER holds the split's files. Prints one JSON line: CPU seconds of each epoch, training examples an epoch, and where
the scores float32 [users, items] were saved. RecBole 1.2.1 with its own NeuMF and trainer; uniform negatives.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

torch.set_num_threads(1)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.general_recommender import NeuMF  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

NEGATIVES, BATCH = 4, 1_024


def main() -> None:
    folder, epochs, seed, work = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    atomic(folder, work / "ml")
    config = Config(
        model="NeuMF",
        dataset="ml",
        config_dict={
            "data_path": str(work), "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]}, "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id",
            "train_neg_sample_args": {
                "distribution": "uniform", "sample_num": NEGATIVES, "alpha": 1.0, "dynamic": False, "candidate_num": 0,
            },
            "mf_embedding_size": 8, "mlp_embedding_size": 16, "mlp_hidden_size": [16, 8], "dropout_prob": 0.0,
            "learning_rate": 1e-3, "train_batch_size": BATCH * (1 + NEGATIVES), "epochs": epochs, "seed": seed,
            "eval_step": 0, "use_gpu": False, "show_progress": False, "state": "ERROR", "checkpoint_dir": str(work),
        },
    )  # fmt: skip
    init_seed(seed, True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = NeuMF(config, train.dataset)
    trainer, seconds, examples = Trainer(config, model), [], 0
    for epoch in range(epochs):
        began = time.process_time()
        trainer._train_epoch(train, epoch, show_progress=False)
        seconds.append(time.process_time() - began)
    examples = len(train.dataset) * (1 + NEGATIVES)
    np.save(work / "scores.npy", scores(model, dataset, folder))
    print(json.dumps({"seconds": seconds, "examples": examples, "scores": str(work / "scores.npy")}))


def atomic(folder: Path, target: Path) -> None:
    """The split as RecBole's files; the held-out items are its test, and stand in for a validation it never makes."""
    target.mkdir(parents=True, exist_ok=True)
    for part, source in (("train", "train"), ("valid", "test"), ("test", "test")):
        rows = pd.read_csv(folder / f"{source}.csv")
        rows.columns = ["user_id:token", "item_id:token"]
        rows.to_csv(target / f"ml.{part}.inter", sep="\t", index=False)


def scores(model: NeuMF, dataset: Any, folder: Path) -> np.ndarray:
    """[users, items] by the split's own ids; -inf for an item that RecBole never saw."""
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    negatives = pd.read_csv(folder / "test_negatives.csv", header=None).to_numpy()[:, 1:]
    users = int(train["user"].max()) + 1
    items = int(max(train["item"].max(), test["item"].max(), negatives.max())) + 1
    known = dataset.field2token_id["item_id"]
    columns = [item for item in range(items) if str(item) in known]
    inside = torch.tensor([known[str(item)] for item in columns])
    found = np.full((users, items), -np.inf, np.float32)
    model.eval()
    with torch.no_grad():
        for user in range(users):
            row = torch.full_like(inside, dataset.token2id("user_id", str(user)))
            found[user, columns] = model.forward(row, inside).squeeze(-1).numpy()
    return found


if __name__ == "__main__":
    main()
