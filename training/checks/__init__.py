"""The gate's checks: pure functions of a Case that return what they found, pass, fail or missing.

    contest.py   everyone is here, on the same unseen exam; better than champion and baselines; guardrails; reference
    slices.py    a regression that only some of the users have
    limits.py    figures against limits: floors, behaviour, the service
    lineage.py   where the model comes from

To add a check: a function `(Case) -> list[Check]` in one of them, and its name in CHECKS of `training.gate`.
"""
