"""The parts of `benchmarks.recommender_scale`."""
