"""The base model: which one the settings name, where its files are, how it is opened.

`NIGHTSHIFT_LANGUAGE_MODEL` is `small` (the built-in Llama, which the first night's training makes under
`models_dir`), a folder, or a name on the Hugging Face hub.

On a CPU with AVX512-BF16, bitsandbytes repacks 4-bit weights in any forward pass in eval mode, and the gradients of a
later training step are silently wrong (cosine 0.25 with the true ones, while the loss still falls): `open_base` turns
that path off. tests/nightshift/language/test_bases.py compares the gradients.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.errors import BaseModelError
from nightshift.settings import Settings

if TYPE_CHECKING:
    import torch

SMALL = "small"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MIB, _MOST_HEADER = 1 << 20, 100_000_000  # bytes; a longer header safetensors itself refuses
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class BaseRef:
    """Which base an adapter belongs to. name: `small`, a folder, or a name on the hub.

    revision: of `small` its digest, of a folder that of `folder_digest`, of a hub's model its commit. Empty, it is
    whatever is there, and nothing is checked; `bound` fills it in.
    """

    name: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def fits(self, other: BaseRef) -> bool:
        """Whether both can be the same base: equal names, and equal revisions where both tell one."""
        told = self.revision and other.revision
        return self.name == other.name and (not told or self.revision == other.revision)


@dataclass(frozen=True)
class Base:
    """An opened base. digest: of its tokenizer, see `tokenizer_digest`. device: where its weights are."""

    ref: BaseRef
    model: Any
    tokenizer: Any
    digest: str
    device: torch.device


def small_folder(settings: Settings, digest: str) -> Path:
    return settings.models_dir / f"{SMALL}-{digest}"


def device_of(settings: Settings) -> torch.device:
    """Where language models run. Raises SettingsError if CUDA is asked for and there is none."""
    import torch

    from nightshift.errors import SettingsError

    if settings.language_device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "NIGHTSHIFT_LANGUAGE_DEVICE is cuda, and torch sees no CUDA device; set auto or cpu"
        )
    if settings.language_device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.language_device)


def where(settings: Settings, ref: BaseRef) -> tuple[str, str | None]:
    """What transformers opens: a folder or a hub's name, and the hub's revision.

    Raises:
        BaseModelError: a folder that is no model, or a small base that was never made here.
    """
    if ref.name == SMALL:
        folder = small_folder(settings, ref.revision)
        if not (folder / "config.json").exists():
            raise BaseModelError(
                f"the small base {ref.revision} is not in {folder.parent}: the first `nightshift train qlora` makes it"
            )
        return str(folder), None
    if ref.name.startswith((".", "/", "~")):
        folder = Path(ref.name).expanduser()
        if not (folder / "config.json").exists() or not any((folder / name).exists() for name in _WEIGHTS):
            raise BaseModelError(
                f"{folder} is no model: it wants config.json, a tokenizer and model.safetensors; "
                "NIGHTSHIFT_LANGUAGE_MODEL names it"
            )
        return str(folder), None
    return ref.name, ref.revision or None


def bound(settings: Settings, ref: BaseRef) -> BaseRef:
    """`ref` with the revision that tells its weights: of a hub's model, that costs its config.json.

    Raises:
        BaseModelError: a folder that is no model or has another revision, or a hub that cannot be reached.
    """
    source, _ = where(settings, ref)
    if ref.name == SMALL or (not Path(source).is_dir() and _COMMIT.fullmatch(ref.revision)):
        return ref
    if Path(source).is_dir():
        _check(Path(source), ref)
        return BaseRef(ref.name, ref.revision or folder_digest(Path(source)))
    return BaseRef(ref.name, config_of(settings, ref).parent.name)  # …/snapshots/COMMIT/config.json


def folder_digest(folder: Path) -> str:
    """sha256 (16 digits) of a model's config.json, and of each safetensors file its name, size, header, first and last
    MiB. To read all of it would be a minute for 8 billion parameters; a change in the middle of a file alone is not
    seen."""
    content = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        content.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            content.update(file.read(min(header, _MOST_HEADER)))
            content.update(file.read(_MIB))
            file.seek(max(size - _MIB, 0))
            content.update(file.read(_MIB))
    return content.hexdigest()[:16]


def config_of(settings: Settings, ref: BaseRef) -> Path:
    """A base's config.json; of a model on the hub that one file is fetched.

    Raises:
        BaseModelError: there is no such folder, or it cannot be fetched.
    """
    source, revision = where(settings, ref)
    if Path(source).is_dir():
        return Path(source) / "config.json"
    quiet()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(source, "config.json", revision=revision))
    except (OSError, HFValidationError) as error:
        said = " ".join(str(error).split())
        raise BaseModelError(
            f"the config of {ref} cannot be had: {said:.200}; set NIGHTSHIFT_LANGUAGE_MODEL to a folder with the "
            "model's files, or to small; a model of the hub needs the network once, and a gated one HF_TOKEN"
        ) from error


def _check(folder: Path, ref: BaseRef) -> None:
    if ref.name != SMALL and ref.revision and (found := folder_digest(folder)) != ref.revision:
        raise BaseModelError(
            f"{folder} holds other weights ({found}) than {ref}: put those back, or train anew and leave "
            "NIGHTSHIFT_LANGUAGE_REVISION empty"
        )


def open_base(settings: Settings, ref: BaseRef, *, four_bit: bool = True) -> Base:
    """Open a base: linear layers in NF4 with double quantisation, computed in bf16; the rest in bf16.

    four_bit: False opens it whole in fp32, which is what 4-bit is compared with.

    Raises:
        BaseModelError: it is not there, cannot be read, has another revision, or the hub cannot be reached.
    """
    quiet()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from nightshift.language.chat import prepare

    source, revision = where(settings, ref)
    if Path(source).is_dir():
        _check(Path(source), ref)
    else:
        ref = bound(settings, ref)
        revision = ref.revision
    device = device_of(settings)
    options: dict[str, Any] = {"dtype": torch.float32}
    if four_bit:
        options = {
            "dtype": torch.bfloat16,
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            ),
        }
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, device_map={"": device}, attn_implementation="sdpa", **options
        )
    except (OSError, ValueError, SafetensorError) as error:  # a hub out of reach is an OSError, too
        said = " ".join(str(error).split())
        advice = (
            "set NIGHTSHIFT_LANGUAGE_MODEL to a folder with the model's files, or to small; a model of the hub needs "
            "the network once (HF_HOME keeps it), and a gated one HF_TOKEN"
        )
        raise BaseModelError(f"base model {ref} cannot be opened: {said:.300}; {advice}") from error
    right_gradients(model)
    model.eval()
    return Base(ref, model, prepare(tokenizer), tokenizer_digest(tokenizer), device)


def right_gradients(model: Any) -> None:
    """Keep bitsandbytes off its CPU path without autograd; see above."""
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 (16 digits) of the vocabulary and the special tokens: equal digests read a text alike."""
    told = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def quiet() -> None:
    """Keep the libraries' progress bars and load reports out of a step's output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("bitsandbytes", "transformers", "peft", "trl", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(peft|transformers|bitsandbytes|trl|torch).*")
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as said

    said.disable_progress_bar()
    said.set_verbosity_error()
    hub.set_verbosity_error()
