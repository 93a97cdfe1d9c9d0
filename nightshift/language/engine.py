"""One opened base that answers, scores and embeds, with any of the adapters it was handed.

Adapters are small and live beside each other: seating another one neither loads the base again nor stops an answer
that is under way. One thing is computed at a time; whoever asks meanwhile waits.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nightshift.errors import BaseModelError
from nightshift.language.bases import Base, BaseRef, open_base
from nightshift.language.chat import Message, encode, ends, prompt
from nightshift.seats import LanguageModel
from nightshift.settings import Settings

if TYPE_CHECKING:
    import torch

LOGITS_AT_ONCE = 256  # positions: of a vocabulary of 128,256, half a GiB of logits in fp32 would be 1,000
_LONG = re.compile(r"\d+\.\d{15,}")
SPREAD = 0.5  # pooled over the layer this deep: later ones say what comes next rather than what was said


@dataclass(frozen=True)
class Told:
    """How surprising the assistant's words of a conversation are. nats: summed −log p over its `tokens`.

    bytes: of the same words in UTF-8, so that models with different tokenizers can be compared.
    """

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


class Engine:
    """A base and the adapters it was handed, by name. `None` is the base itself, untuned."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._names: set[str] = set()  # with weights
        self._plain: set[str] = set()  # without: the base
        self._lock = threading.RLock()
        self._compiler: Any = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names | self._plain)

    def add(self, name: str, adapter: LanguageModel) -> None:
        """Take in an adapter.

        Raises:
            BaseModelError: it belongs to another base or tokenizer, or its weights do not fit this base.
        """
        from peft import LoraConfig, set_peft_model_state_dict

        theirs = BaseRef(adapter.base, adapter.revision)
        if not theirs.fits(self.base.ref) or adapter.tokenizer_digest != self.base.digest:
            raise BaseModelError(
                f"the adapter is of {theirs} (tokenizer {adapter.tokenizer_digest}), opened is {self.base.ref} "
                f"(tokenizer {self.base.digest})"
            )
        if not adapter.weights:  # the untuned base
            with self._lock:
                self.remove(name)
                self._plain.add(name)
            return
        import torch

        weights = {key: torch.from_numpy(np.array(value)) for key, value in adapter.weights.items()}
        with self._lock:
            self.remove(name)
            self.base.model.add_adapter(LoraConfig(**adapter.lora), name)
            self._names.add(name)
            mine = [p for key, p in self.base.model.named_parameters() if f".{name}." in f"{key}."]
            for parameter in mine:
                parameter.data = parameter.data.float()  # as it was trained; in bf16 its answers differ
                parameter.requires_grad_(False)
            try:
                result: Any = set_peft_model_state_dict(self.base.model, weights, adapter_name=name)
                missing = [key for key in result.missing_keys if "lora_" in key and f".{name}." in f"{key}."]
                if missing or result.unexpected_keys:
                    wrong = (missing or result.unexpected_keys)[0]
                    raise BaseModelError(f"the adapter's weights do not fit {self.base.ref}: {wrong}")
            except (RuntimeError, BaseModelError) as error:
                self.remove(name)
                raise BaseModelError(f"the adapter's weights do not fit {self.base.ref}: {error}") from error

    def remove(self, name: str) -> None:
        """Forget an adapter; nothing if there is none of that name."""
        with self._lock:
            self._plain.discard(name)
            if name in self._names:
                self._names.discard(name)
                self.base.model.delete_adapter(name)

    def surprise(
        self, conversations: Sequence[Sequence[Message]], adapter: str | None, *, limit: int = 2048
    ) -> list[Told]:
        """How surprising what the assistant said is, conversation by conversation; of a longer one, its first
        `limit` tokens, and no more than the base knows positions for."""
        with self._lock, self._wearing(adapter):
            limit = self._within(limit)
            return [self._surprise(messages, limit) for messages in conversations]

    def answer(self, messages: Sequence[Message], adapter: str | None, **options: Any) -> str:
        """The whole answer of `stream`."""
        return "".join(self.stream(messages, adapter, **options))

    def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        schema: str | None = None,
    ) -> Iterator[str]:
        """The next answer, piece by piece as it is made; stop reading, and it stops.

        temperature: 0 takes the likeliest token each time. schema: a JSON schema that the answer will follow.
        The engine is this answer's until the iterator is done or closed.
        """
        import torch
        from transformers import DynamicCache

        tokenizer, model, device = self.base.tokenizer, self.base.model, self.base.device
        over = set(ends(tokenizer))
        random = torch.Generator().manual_seed(seed)
        with self._lock, self._wearing(adapter):
            matcher = _Matcher(self._grammar(schema), tokenizer) if schema is not None else None
            ids = torch.tensor([prompt(tokenizer, messages)], device=device)
            cache, made, said = DynamicCache(config=model.config), [], ""
            for _ in range(max_tokens):
                with torch.inference_mode():
                    out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits = out.logits[0, -1].float().cpu()
                if matcher is not None:
                    matcher.mask(logits)
                token = _pick(logits, temperature, random)
                if token in over or (matcher is not None and matcher.take(token)):
                    if matcher is not None and token not in over:
                        made.append(token)
                    break
                made.append(token)
                text = tokenizer.decode(made, skip_special_tokens=True)
                if not text.endswith("\ufffd"):  # half a Korean syllable: wait for the rest of its bytes
                    yield text[len(said) :]
                    said = text
                ids = torch.tensor([[token]], device=device)
            yield tokenizer.decode(made, skip_special_tokens=True)[len(said) :]

    def hidden(self, texts: Sequence[str], *, limit: int = 512) -> np.ndarray:
        """[n, hidden size] float32: each text's hidden states of the untuned base, averaged over its tokens.

        Of the layer SPREAD of the way up. Of a longer text its first `limit` tokens count, and no more than
        the base knows positions for; an empty one is zeros.
        """
        import torch

        found = np.zeros((len(texts), self.base.model.config.hidden_size), np.float32)
        with self._lock, self._wearing(None), torch.inference_mode():
            for row, text in enumerate(texts):
                read = self.base.tokenizer(
                    text, truncation=True, max_length=self._within(limit), return_special_tokens_mask=True
                )
                ids, words = read["input_ids"], 1 - np.array(read["special_tokens_mask"])
                if not words.any() or not text.strip():
                    continue
                states = self.base.model(
                    torch.tensor([ids], device=self.base.device), output_hidden_states=True, logits_to_keep=1
                ).hidden_states
                # A beginning-of-text token's state is many times the others', and says nothing.
                state = states[round(SPREAD * (len(states) - 1))][0].float().cpu().numpy()
                found[row] = state[words.astype(bool)].mean(0)
        return found

    def close(self) -> None:
        """Give back the memory; the engine is of no use afterwards."""
        import gc

        import torch

        with self._lock:
            self.base = None  # type: ignore[assignment]
            self._compiler = None
            gc.unfreeze()  # a service freezes what it has seated, and 4-bit layers hold themselves in a circle
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    # --- inside ----------------------------------------------------------------------------------------

    @contextmanager
    def _wearing(self, adapter: str | None) -> Iterator[None]:
        if adapter is not None and adapter not in self.names:
            raise BaseModelError(
                f"no adapter {adapter} is on {self.base.ref}, only {', '.join(sorted(self.names)) or 'the base'}: "
                "hand it to the engine first"
            )
        worn = getattr(
            self.base.model, "_hf_peft_config_loaded", False
        )  # this engine's, or another's before it
        if adapter in self._names:
            self.base.model.enable_adapters()
            self.base.model.set_adapter(adapter)
        elif worn:
            self.base.model.disable_adapters()
        yield

    def _within(self, limit: int) -> int:
        return min(limit, getattr(self.base.model.config, "max_position_embeddings", limit))

    def _surprise(self, messages: Sequence[Message], limit: int) -> Told:
        import torch

        encoded = encode(self.base.tokenizer, messages, limit)
        said = [place for place, mark in enumerate(encoded.said) if mark and place > 0]
        if not said:
            return Told(0.0, 0, 0)
        device = self.base.device
        ids = torch.tensor([encoded.ids], device=device)
        nats = 0.0
        with torch.inference_mode():
            states = self.base.model.get_decoder()(ids, use_cache=False).last_hidden_state[0]
            head = self.base.model.get_output_embeddings()
            for start in range(0, len(said), LOGITS_AT_ONCE):
                places = torch.tensor(said[start : start + LOGITS_AT_ONCE], device=device)
                logits = head(states[places - 1]).float()
                nats += float(torch.nn.functional.cross_entropy(logits, ids[0, places], reduction="sum"))
        words = self.base.tokenizer.decode([encoded.ids[p] for p in said], skip_special_tokens=True)
        return Told(nats, len(said), len(words.encode()))

    def _grammar(self, schema: str) -> Any:
        """The compiled grammar of a JSON schema; the compiler keeps those it knows, for compiling takes longer than
        answering."""
        import xgrammar

        if self._compiler is None:
            info = xgrammar.TokenizerInfo.from_huggingface(
                self.base.tokenizer, vocab_size=self.base.model.config.vocab_size
            )
            self._compiler = xgrammar.GrammarCompiler(info)
        rules = str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False))
        # It writes 0.8 as 0.80000000000000004, which no model has learnt to say.
        return self._compiler.compile_grammar(_LONG.sub(lambda found: repr(float(found.group())), rules))


class _Matcher:
    """Keeps an answer to a grammar."""

    def __init__(self, grammar: Any, tokenizer: Any) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(grammar, override_stop_tokens=ends(tokenizer))
        self._allowed = xgrammar.allocate_token_bitmask(1, grammar.tokenizer_info.vocab_size)

    def mask(self, logits: torch.Tensor) -> None:
        import xgrammar

        self._matcher.fill_next_token_bitmask(self._allowed)
        xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), self._allowed)

    def take(self, token: int) -> bool:
        """Take in a token; whether the answer is whole with it."""
        self._matcher.accept_token(token)
        return bool(self._matcher.is_completed() or self._matcher.is_terminated())


def _pick(logits: torch.Tensor, temperature: float, random: torch.Generator) -> int:
    import torch

    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=random))


def open_engine(settings: Settings, adapter: LanguageModel) -> Engine:
    """An engine with the base that an adapter belongs to, the adapter not yet added. Raises as `open_base`."""
    return Engine(open_base(settings, BaseRef(adapter.base, adapter.revision)))
