"""The parts of `benchmarks.features_scale`."""
