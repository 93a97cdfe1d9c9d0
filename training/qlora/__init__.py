"""QLoRA: the language seat's family. 4-bit base, LoRA adapters, one recipe from 2 million parameters to 8 billion."""
