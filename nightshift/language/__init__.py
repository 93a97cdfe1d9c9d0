"""The language seat's base model, as everybody opens it: in 4-bit, with adapters that come and go.

A candidate is an *adapter*: LoRA weights and the name, revision and tokenizer of the base that they belong to; the
base itself is in no package. Training makes adapters, the gate and the service run them, all through these doors:

    bases.py    which base the settings name, where its files are, how it is opened
    chat.py     how a conversation becomes tokens, and which of them the assistant said
    engine.py   one opened base that answers, scores and embeds with any adapter

Importing a module here costs nothing: torch and transformers are imported on use.
"""
