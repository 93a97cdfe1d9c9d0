"""How a conversation becomes tokens. The template marks what the assistant said: training learns that alone, and the
exam scores that alone.

A tokenizer's own template is used where it has such marks. Else we bring ours: the Llama 3 format for a vocabulary
with its header tokens (Llama 3, 3.1 and their Korean descendants), ChatML for one with its tokens, and plain lines
for anything else. Only the template sets special tokens: where somebody wrote one, it is taken apart and stays text, or
a user could write a turn of the system's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, str]  # role: system, user or assistant; content

MARK = "{% generation %}"
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# A line break before the words: many vocabularies would join a blank to the first of them.
_PLAIN = (
    "{{ bos_token if bos_token else '' }}{% for m in messages %}{{ m['role'] + ':\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + eos_token }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
# Some vocabularies add these without calling them special.
_TURNS = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"}
# The token that ends an assistant's turn, by the token that tells the format.
_FORMATS = (
    ("<|start_header_id|>", _LLAMA3, "<|eot_id|>"),
    ("<|im_start|>", _CHATML, "<|im_end|>"),
)


@dataclass(frozen=True)
class Encoded:
    """ids: int tokens. said: whether the assistant said it (1) or not (0), for each of them."""

    ids: list[int]
    said: list[int]


def prepare(tokenizer: Any) -> Any:
    """`tokenizer` with a template that marks the assistant's words, an end of turn, and something to pad with."""
    vocabulary = tokenizer.get_vocab()
    if MARK not in (tokenizer.chat_template or ""):
        known = [(template, end) for token, template, end in _FORMATS if token in vocabulary]
        tokenizer.chat_template = known[0][0] if known else _PLAIN
    if tokenizer.pad_token_id is None:
        spare = next((t for t in ("<|finetune_right_pad_id|>", "<|pad|>") if t in vocabulary), None)
        tokenizer.pad_token = spare or tokenizer.eos_token
    return tokenizer


def ends(tokenizer: Any) -> list[int]:
    """The tokens after which an answer is over."""
    vocabulary = tokenizer.get_vocab()
    found = [vocabulary[end] for _, _, end in _FORMATS if end in vocabulary]
    return list(dict.fromkeys([*found, tokenizer.eos_token_id]))


def encode(tokenizer: Any, messages: Sequence[Message], limit: int | None = None) -> Encoded:
    """A whole conversation; of one longer than `limit` tokens, its beginning."""
    both = tokenizer.apply_chat_template(
        inert(tokenizer, messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return Encoded(list(both["input_ids"])[:limit], list(both["assistant_masks"])[:limit])


def prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The tokens that the next answer follows."""
    both = tokenizer.apply_chat_template(
        inert(tokenizer, messages), tokenize=True, return_dict=True, add_generation_prompt=True
    )
    return list(both["input_ids"])


def inert(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """The messages with the tokenizer's special tokens in their texts taken apart, so that they are but text."""
    special = special_tokens(tokenizer)
    return [{**message, "content": _apart(message["content"], special)} for message in messages]


def special_tokens(tokenizer: Any) -> list[str]:
    """Those that a template alone may set, without blanks around them. Other added tokens, such as runs of blanks,
    are words like any other."""
    added = tokenizer.added_tokens_decoder.values()
    found = {str(token) for token in added if token.special or str(token) in _TURNS}
    return sorted({token.strip() for token in found | set(tokenizer.all_special_tokens)} - {""})


def _apart(text: str, tokens: Sequence[str]) -> str:
    while found := [token for token in tokens if len(token) > 1 and token in text]:
        for token in found:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
