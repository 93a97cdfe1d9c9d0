"""conversations: what users and the coach said to each other. One row per conversation, told when it was over.

Messages alternate user and assistant and end with the assistant; a system message may come first. Without the
user's consent a conversation is never stored here.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from nightshift.contracts.table import TIMESTAMP, Column, Contract

ROLES = ("system", "user", "assistant")
SPEAKERS = ("person", "coach")
MAX_MESSAGES, MAX_CHARACTERS = 64, 8_000  # of a conversation; of a message
MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

CONVERSATIONS = Contract(
    name="conversations",
    meaning="Conversations with the coach, cleaned of personal data; instruction pairs have two messages.",
    columns=(
        Column("conversation_id", pa.string(), "Opaque id.", unique=True, max_length=128),
        Column("user_id", pa.string(), "Who talked with the coach.", max_length=128),
        Column("at", TIMESTAMP, "When it was over, UTC."),
        Column("messages", MESSAGES, "role (system, user, assistant) and content, oldest first."),
        Column("consent", pa.bool_(), "The user agreed that it may be learnt from; never false."),
        Column(
            "said_by",
            pa.string(),
            "Whose words the assistant's turns are: a person's, or our own coach's, who is not to be examined by them.",
            allowed=SPEAKERS,
        ),
    ),
    key=("conversation_id",),
    time="at",
    sample=(
        {
            "conversation_id": "c1",
            "user_id": "u1",
            "at": datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
            "messages": [
                {"role": "user", "content": "요즘 일이 재미없어요."},
                {"role": "assistant", "content": "어떤 일을 할 때 시간이 빨리 갔나요?"},
            ],
            "consent": True,
            "said_by": "person",
        },
    ),
    may_be_empty=True,
)
