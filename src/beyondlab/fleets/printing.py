"""Tables that the server prints for ``kubectl get`` (``Accept: application/json;as=Table``)."""

from __future__ import annotations

import datetime
from typing import Any

from beyondlab.fleets.resources import Resource


def age(stamp: str, now: datetime.datetime) -> str:
    """The time since an RFC 3339 ``stamp`` as kubectl shows it: 12s, 5m3s, 4h, 3d."""
    try:
        seconds = max(0, int((now - datetime.datetime.fromisoformat(stamp)).total_seconds()))
    except ValueError:
        return "<unknown>"
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 600:
        return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
    for size, unit in ((86_400 * 2, "d"), (3_600 * 2, "h"), (0, "m")):
        if seconds >= size:
            return f"{seconds // {'d': 86_400, 'h': 3_600, 'm': 60}[unit]}{unit}"
    return "<unknown>"


def at(value: Any, path: str) -> Any:
    """A simple JSON path such as ``.spec.replicas``; None where there is nothing."""
    for step in path.strip("{}").lstrip(".").split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _pod(value: dict[str, Any]) -> dict[str, Any]:
    """What a pod's row shows is not one field each."""
    status = value.get("status") or {}
    statuses = status.get("containerStatuses") or []
    count = len((value.get("spec") or {}).get("containers") or ())
    phase = "Terminating" if value["metadata"].get("deletionTimestamp") else status.get("phase", "Pending")
    return {**value, "status": {"ready": f"{sum(bool(s.get('ready')) for s in statuses)}/{count}", "phase": phase,
                                "restarts": sum(s.get("restartCount", 0) for s in statuses)}}  # fmt: skip


def table(resource: Resource, items: list[dict[str, Any]], meta: dict[str, Any], *, heads: bool = True) -> dict[str, Any]:
    """A ``Table``: name, the resource's own columns, age. Watches send ``heads`` once."""
    now = datetime.datetime.now(datetime.UTC)
    columns = [("Name", "name"), *((title, "") for title, _ in resource.columns), ("Age", "")]
    rows = []
    for item in items:
        shown = _pod(item) if (resource.group, resource.kind) == ("", "Pod") else item
        cells = [item["metadata"]["name"], *(at(shown, path) for _, path in resource.columns)]
        cells.append(age(item["metadata"].get("creationTimestamp", ""), now))
        row = {"apiVersion": item["apiVersion"], "kind": "PartialObjectMetadata", "metadata": item["metadata"]}
        rows.append({"cells": ["<none>" if cell is None else cell for cell in cells], "object": row})
    definitions = [{"name": title, "type": "string", "format": kind, "description": title, "priority": 0} for title, kind in columns]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "columnDefinitions": definitions if heads else [], "rows": rows}  # fmt: skip
