"""MovieLens-1M as the NCF paper split it: what the methods learn from, and how they are scored."""
