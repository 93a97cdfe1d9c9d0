"""Where the candidate comes from: audited data, known code, a complete record, and hashes that still hold."""

from __future__ import annotations

from training.checks.case import Case, Check, Status

SHOWN = 3  # of a list of days or files; the verdict's JSON has all


def lineage(case: Case) -> list[Check]:
    policy, found = case.policy.lineage, case.evidence.lineage
    if policy is None or case.evidence.candidate is None:
        return []
    if found is None or found.problem:
        why = found.problem if found is not None else "nobody looked at it"
        return [
            Check(
                "lineage", "missing", f"Where the candidate comes from is not known: {why}.", group="lineage"
            )
        ]
    return [
        _listed("lineage is complete", found.absent, "missing", "All that a lineage needs is on record.",
                "Its lineage is not complete: there is no {}."),
        _listed("data audited", found.unaudited, "fail", "Every day of training and exam passed its audit.",
                "Data without an audit that it passed: {}."),
        _listed("exam content unseen", found.shared, "fail", "No content of the exam was trained on, by digest.",
                "The same content is in training and exam: {}."),
        _listed("as it was recorded", found.changed, "fail", "Data and artifacts have the digests that were recorded.",
                "Not as it was recorded in training: {}."),
        _code(found.commit, found.dirty, policy.dirty),
    ]  # fmt: skip


def _listed(name: str, found: tuple[str, ...], bad: Status, fine: str, wrong: str) -> Check:
    if not found:
        return Check(name, "pass", fine, group="lineage")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    told = wrong.format(", ".join(found[:SHOWN]) + more)
    return Check(name, bad, told, {"found": list(found)}, group="lineage")


def _code(commit: str, dirty: bool | None, wanted: str) -> Check:
    name = "code known"
    if not commit or commit == "unknown" or dirty is None:
        return Check(name, "missing", "It is not known by which code it was trained.", group="lineage")
    if not dirty or wanted == "pass":
        return Check(name, "pass", f"Trained by commit {commit[:12]}.", {"commit": commit}, group="lineage")
    told = f"Trained by a tree that differed from its commit {commit[:12]}: what code it was cannot be looked up."
    figures = {"commit": commit, "dirty": True}
    status: Status = "fail" if wanted == "fail" else "pass"
    return Check(name, status, told, figures, group="lineage", flag=status == "pass")
