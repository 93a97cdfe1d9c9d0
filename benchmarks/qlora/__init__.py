"""Parts of the language seat's benchmarks."""
