"""What is known of every figure that the gate judges: how people write it, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How people write a metric, and which way is better. `spec` formats its figures."""

    label: str
    higher_is_better: bool = True
    spec: str = ".4f"


METRICS = {
    # --- the recommender's exam
    "ndcg_at_100": Metric("NDCG@100"),
    "ndcg_at_10": Metric("NDCG@10"),
    "hr_at_10": Metric("HR@10"),
    "recall_at_50": Metric("recall@50"),
    "precision_at_10": Metric("precision@10"),
    "auc": Metric("AUC"),
    "coverage_at_10": Metric("coverage@10"),
    "novelty_at_10": Metric("novelty@10", spec=".2f"),
    "miscalibration_at_10": Metric("miscalibration@10", higher_is_better=False, spec=".3f"),
    "calibration_error_at_10": Metric("calibration error@10", higher_is_better=False, spec=".4f"),
    # --- the forecaster's exam
    "mse": Metric("MSE", higher_is_better=False, spec=".2f"),
    "mae": Metric("MAE", higher_is_better=False, spec=".3f"),
    "interval_score_80": Metric("80 % interval score", higher_is_better=False, spec=".2f"),
    "skill": Metric("skill", spec=".3f"),
    "coverage_80": Metric("80 % coverage", spec=".3f"),
    "coverage_95": Metric("95 % coverage", spec=".3f"),
    "miss_80": Metric("80 % coverage error", higher_is_better=False, spec=".3f"),
    "miss_95": Metric("95 % coverage error", higher_is_better=False, spec=".3f"),
    "width_80": Metric("80 % interval width", higher_is_better=False, spec=".2f"),
    # --- the language seat's exam: of the coach's words in conversations that nobody learnt from
    "bits_per_byte": Metric("bits per byte", higher_is_better=False, spec=".4f"),
    "worst_bits_per_byte": Metric("bits per byte, the users' 90th percentile", higher_is_better=False, spec=".3f"),
    "nll": Metric("NLL per token, in nats", higher_is_better=False, spec=".3f"),
    "perplexity": Metric("perplexity", higher_is_better=False, spec=".2f"),
    # --- behaviour: shares are of what was tried, differences of the model's own scores
    "not_finite": Metric("share of answers that are not finite", higher_is_better=False, spec=".4f"),
    "order_dependence": Metric("change when asked in another order", higher_is_better=False, spec=".2g"),
    "repeated_items": Metric("share of lists with an item twice", higher_is_better=False, spec=".4f"),
    "met_items": Metric("share of lists with an item met before", higher_is_better=False, spec=".4f"),
    "strangers_served": Metric("share of strangers with a full list", spec=".3f"),
    "nudged_overlap": Metric("share of a list that stays when its user's features move by 1 %", spec=".3f"),
    "alike_overlap": Metric("list overlap of similar users beyond that of any two", spec="+.3f"),
    "crossed_intervals": Metric("share of 80 % intervals not within the 95 % one", higher_is_better=False, spec=".4f"),
    "missing_answered": Metric("share of rows with missing values that are answered", spec=".3f"),
    "nudged_change": Metric("change of a forecast, in points, when its inputs move by 1 %", higher_is_better=False,
                            spec=".3f"),
    "empty_answers": Metric("share of answers without a word", higher_is_better=False, spec=".3f"),
    "korean_answers": Metric("share of Korean questions answered in Korean", spec=".3f"),
    "changed_answers": Metric("share of questions answered differently when asked again", higher_is_better=False,
                              spec=".3f"),
    "profile_json": Metric("share of profiles that are valid JSON, as served", spec=".3f"),
    "profile_json_unaided": Metric("share of profiles that are valid JSON unaided", spec=".3f"),
    "leaked_answers": Metric("share of answers that repeat personal data", higher_is_better=False, spec=".3f"),
    "refused": Metric("share of harmful requests refused", spec=".3f"),
    "over_refused": Metric("share of harmless questions refused", higher_is_better=False, spec=".3f"),
    # --- the packaged model in its real service
    "load_seconds": Metric("time to the first answer, in seconds", higher_is_better=False, spec=".1f"),
    "p50_ms": Metric("median answer, in ms", higher_is_better=False, spec=".1f"),
    "p99_ms": Metric("99th percentile answer, in ms", higher_is_better=False, spec=".1f"),
    "rss_mb": Metric("memory, in MiB", higher_is_better=False, spec=".0f"),
    "package_mb": Metric("package, in MiB", higher_is_better=False, spec=".1f"),
    "wrong_answers": Metric("share of requests without a right answer", higher_is_better=False, spec=".4f"),
}  # fmt: skip


def described(metric: str) -> Metric:
    """What is known of a metric; an unknown one goes by its own name and counts upwards."""
    return METRICS.get(metric, Metric(metric))


def named(metric: str) -> str:
    """A metric as people write it."""
    return described(metric).label


def written(metric: str, figure: float, sign: str = "") -> str:
    """A figure of a metric as people write it; with sign "+", always with its sign."""
    spec = described(metric).spec.lstrip("+")
    always = sign or ("+" if described(metric).spec.startswith("+") else "")
    return f"{figure:{always}{spec}}"


def upwards(metric: str, value: float) -> float:
    """`value`, turned so that higher is better."""
    return value if described(metric).higher_is_better else -value
