"""What a Kubernetes API says when it says no: a ``Status`` object with code, reason, message and details."""

from __future__ import annotations

from typing import Any

from beyondlab.fleets.resources import Resource


class StatusError(Exception):
    """An answer that is not a success. ``document`` is the ``Status`` object."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason
        self.document = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        } | ({"details": details} if details else {})  # fmt: skip


def not_found(resource: Resource, name: str) -> StatusError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return StatusError(404, "NotFound", f'{resource.name} "{name}" not found', **details)


def already_exists(resource: Resource, name: str) -> StatusError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return StatusError(409, "AlreadyExists", f'{resource.name} "{name}" already exists', **details)


def conflict(resource: Resource, name: str) -> StatusError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return StatusError(
        409, "Conflict",
        f'Operation cannot be fulfilled on {resource.name} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again", **details,
    )  # fmt: skip


def invalid(resource: Resource, name: str, causes: list[str]) -> StatusError:
    details = {"name": name, "group": resource.group, "kind": resource.kind,
               "causes": [{"reason": "FieldValueInvalid", "message": cause} for cause in causes]}  # fmt: skip
    what = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {what}', **details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def expired(asked: int, oldest: int) -> StatusError:
    return StatusError(410, "Expired", f"too old resource version: {asked} ({oldest})")
