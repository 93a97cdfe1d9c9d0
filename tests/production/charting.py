"""Lints and renders the chart with Helm's own library, and checks what comes out against Kubernetes' schemas.

Runs in an environment of its own, which uv makes (tests/production/test_helm.py): Helm and the schemas are 100 MB that
nobody who runs Nightshift needs.

    python charting.py CHART < cases.json > results.json

cases: name → {"values": [files, the later over the earlier], "set": values over them}.
results: name → {"error": why it is not rendered, or null, "lint": […], "objects": […], "invalid": […]}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python as helm
import kubernetes_validate as schemas
import yaml

KUBERNETES = ("1.30", "1.37")  # the oldest that Chart.yaml lets in, and the newest with schemas here
OTHERS = {"ServiceMonitor"}  # not Kubernetes' own: Prometheus' operator has its schema


def over(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`other` over `base`, map by map, as Helm merges files of values."""
    merged = dict(base)
    for key, value in other.items():
        deep = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = over(base[key], value) if deep else value
    return merged


def faults(thing: dict[str, Any]) -> list[str]:
    """What is wrong with an object by the schemas of both versions, unknown fields included."""
    if thing["kind"] in OTHERS:
        return []
    found = []
    for version in KUBERNETES:
        try:
            schemas.validate(thing, version, strict=True)
        except schemas.ValidationError as error:
            found.append(f"{version}: {thing['kind']} {thing['metadata']['name']}: {error.message}")
    return found


def tried(chart: str, case: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in case["values"]:
        with open(path, encoding="utf-8") as file:
            values = over(values, yaml.safe_load(file))
    values = over(values, case["set"])
    try:
        report = helm.lint(chart, values)
        with helm.Chart.load(chart) as loaded:
            texts = loaded.render(values, name="night", namespace="ml")
    except helm.HelmError as error:
        return {"error": str(error), "lint": [], "objects": [], "invalid": [], "notes": ""}
    notes = [text for name, text in texts.items() if name.endswith("NOTES.txt")]
    manifests = [text for name, text in texts.items() if not name.endswith("NOTES.txt")]
    objects = [thing for text in manifests for thing in yaml.safe_load_all(text) if thing]
    invalid = [fault for thing in objects for fault in faults(thing)]
    return {
        "error": None,
        "lint": report["messages"],
        "objects": objects,
        "invalid": invalid,
        "notes": "".join(notes),
    }


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    json.dump({name: tried(sys.argv[1], case) for name, case in cases.items()}, sys.stdout)
