"""The Open Inference Protocol (KServe v2) over HTTP: requests and answers, versions, and the split of traffic.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and the Binary Tensor Data Extension
as KServe and Triton document it. Pure functions and a registry; which web server carries them is another matter (see
:mod:`beyondlab.inference.server`). The protocol says nothing about which version answers a request that names none:
"the server will choose a version based on its own policies". Here the policy is a split in percent, as Cloud Run and
Knative split traffic between revisions: that makes a canary, and a roll-back one assignment.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATATYPES = {
    "BOOL": np.dtype(bool), "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
"""The protocol's tensor data types but BYTES, which this server does not take."""

LENGTH = "inference-header-content-length"
"""The header of the binary extension: bytes of JSON before the tensors."""


class ProtocolError(ValueError):
    """A request that cannot be served; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Tensor:
    """The description of an input or output: -1 in ``shape`` is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Request:
    """A decoded request: its tensors by name, the outputs asked for (None: all), and which of them in binary."""

    inputs: dict[str, NDArray[Any]]
    id: str | None = None
    outputs: tuple[str, ...] | None = None
    binary: frozenset[str] = frozenset()
    binary_default: bool = False


def encode_request(inputs: Mapping[str, NDArray[Any]], *, id: str | None = None) -> dict[str, Any]:
    """The JSON document of a request."""
    document: dict[str, Any] = {"inputs": [_encoded(name, value) for name, value in inputs.items()]}
    return document if id is None else {"id": id} | document


def _encoded(name: str, value: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "shape": list(value.shape), "datatype": _datatype(value), "data": value.ravel().tolist()}


def _datatype(value: NDArray[Any]) -> str:
    for name, dtype in DATATYPES.items():
        if dtype == value.dtype.newbyteorder("<"):
            return name
    raise ProtocolError(f"dtype {value.dtype} has no data type of the protocol; there are {', '.join(DATATYPES)}", 500)


def decode_request(body: bytes, headers: Mapping[str, str], inputs: Sequence[Tensor]) -> Request:
    """Read a request for a model with these ``inputs``. Raises :class:`ProtocolError` if anything does not fit."""
    lower = {key.lower(): value for key, value in headers.items()}
    length = len(body)
    if LENGTH in lower:
        if not lower[LENGTH].isdigit() or int(lower[LENGTH]) > len(body):
            raise ProtocolError(f"{LENGTH} is {lower[LENGTH]!r}, the body has {len(body)} bytes")
        length = int(lower[LENGTH])
    try:
        document = json.loads(body[:length])
    except ValueError as error:
        raise ProtocolError(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise ProtocolError("the request must be an object with a list of inputs")
    known = {tensor.name: tensor for tensor in inputs}
    found, rest = {}, body[length:]
    for entry in document["inputs"]:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in known:
            raise ProtocolError(f"unexpected input {name!r}; the model has {', '.join(known)}")
        found[name], rest = _decoded(entry, known[name], rest)
    if rest:
        raise ProtocolError(f"{len(rest)} bytes of binary data belong to no input")
    if missing := [name for name in known if name not in found]:
        raise ProtocolError(f"input {missing[0]!r} is missing")
    asked = document.get("outputs")
    wanted = {output["name"]: bool((output.get("parameters") or {}).get("binary_data")) for output in asked or ()}
    return Request(
        found,
        document.get("id"),
        tuple(wanted) if asked else None,
        frozenset(name for name, binary in wanted.items() if binary),
        bool((document.get("parameters") or {}).get("binary_data_output")),
    )


def _decoded(entry: dict[str, Any], tensor: Tensor, rest: bytes) -> tuple[NDArray[Any], bytes]:
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if datatype != tensor.datatype:
        raise ProtocolError(f"input {tensor.name!r} has datatype {datatype!r}; the model takes {tensor.datatype}")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise ProtocolError(f"input {tensor.name!r} has shape {shape!r}: must be a list of whole numbers")
    if len(shape) != len(tensor.shape) or any(want not in (-1, n) for n, want in zip(shape, tensor.shape)):
        raise ProtocolError(f"input {tensor.name!r} has shape {shape}; the model takes {list(tensor.shape)}")
    dtype, count = DATATYPES[datatype], math.prod(shape)
    size = (entry.get("parameters") or {}).get("binary_data_size")
    try:
        if size is not None:
            if size != count * dtype.itemsize or size > len(rest):
                raise ProtocolError(f"input {tensor.name!r} has binary_data_size {size}; shape and body say otherwise")
            return np.frombuffer(rest[:size], dtype).reshape(shape), rest[size:]
        return np.array(entry.get("data"), dtype).reshape(shape), rest
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ProtocolError):
            raise
        raise ProtocolError(f"input {tensor.name!r}: the data do not fit {datatype} of shape {shape}") from None


def encode_response(
    model: str,
    version: str,
    outputs: Mapping[str, NDArray[Any]],
    request: Request,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer. Raises :class:`ProtocolError` if an output was asked for that is not there."""
    names = request.outputs if request.outputs is not None else tuple(outputs)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    if parameters:
        document["parameters"] = dict(parameters)
    document["outputs"], tail = [], b""
    for name in names:
        if name not in outputs:
            raise ProtocolError(f"unexpected output {name!r}; the model has {', '.join(outputs)}")
        entry = _encoded(name, outputs[name])
        if name in request.binary or (request.outputs is None and request.binary_default):
            raw = np.ascontiguousarray(outputs[name]).astype(DATATYPES[entry["datatype"]]).tobytes()
            del entry["data"]
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        document["outputs"].append(entry)
    text = json.dumps(document).encode()
    if not tail:
        return text, {"Content-Type": "application/json"}
    return text + tail, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}


def decode_response(body: bytes, headers: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The output tensors of an answer by name."""
    lower = {key.lower(): value for key, value in headers.items()}
    length = int(lower.get(LENGTH, len(body)))
    rest, found = body[length:], {}
    for entry in json.loads(body[:length])["outputs"]:
        dtype = DATATYPES[entry["datatype"]]
        size = (entry.get("parameters") or {}).get("binary_data_size")
        data = np.array(entry["data"], dtype) if size is None else np.frombuffer(rest[:size], dtype)
        rest = rest[size or 0 :]
        found[entry["name"]] = data.reshape(entry["shape"])
    return found


@dataclass
class Model:
    """A served model: its versions, and the share of the requests without a version that each gets.

    ``versions``: name to what answers, in any form the server likes. ``traffic``: name to percent, 100 in all.
    """

    name: str
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    versions: dict[str, Any]
    traffic: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.versions:
            raise ValueError("versions={}: a model needs at least one")
        self._random = random.Random(self.seed)
        self.split(self.traffic or {next(reversed(self.versions)): 100})

    def split(self, traffic: Mapping[str, float]) -> None:
        """Send this percentage to each version, from the next request on. Raises ValueError unless it makes 100."""
        for version, percent in traffic.items():
            if version not in self.versions:
                raise ValueError(f"traffic names version {version!r}; there are {', '.join(self.versions)}")
            if not 0 <= percent <= 100:
                raise ValueError(f"traffic[{version!r}]={percent!r}: must be a percentage")
        if not math.isclose(sum(traffic.values()), 100):
            raise ValueError(f"traffic={dict(traffic)!r}: must make 100 in all")
        self.traffic = dict(traffic)

    def choose(self, version: str | None = None) -> str:
        """The version that answers: the one named, else one drawn by the split."""
        if version is not None:
            if version not in self.versions:
                raise ProtocolError(f"model {self.name!r} has no version {version!r}", 404)
            return version
        return self._random.choices(list(self.traffic), list(self.traffic.values()))[0]

    def document(self) -> dict[str, Any]:
        """The metadata."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [tensor.document() for tensor in self.inputs],
            "outputs": [tensor.document() for tensor in self.outputs],
        }


_PATHS = [
    ("GET", re.compile(r"/v2/?"), "server"),
    ("GET", re.compile(r"/v2/health/(live|ready)"), "health"),
    ("GET", re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?"), "model"),
    ("GET", re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/ready"), "ready"),
    ("POST", re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer"), "infer"),
]


def route(method: str, path: str) -> tuple[str, tuple[str | None, ...]]:
    """Which of ``server``, ``health``, ``model``, ``ready``, ``infer`` is asked, and its parts of the path.

    Raises :class:`ProtocolError` with 404 for another path and 405 for another method.
    """
    for verb, pattern, what in _PATHS:
        if match := pattern.fullmatch(path):
            if method != verb:
                raise ProtocolError(f"{method} is not allowed for {path}", 405)
            return what, match.groups()
    raise ProtocolError(f"no such path: {path}", 404)


def describe(
    what: str, parts: Sequence[str | None], models: Mapping[str, Model], ready: Callable[[], bool]
) -> tuple[int, Any]:
    """Status and document of the answers that need no inference: metadata and health."""
    if what == "server":
        return 200, {"name": "beyondlab", "version": "1", "extensions": ["binary_tensor_data"]}
    if what == "health":
        fine = parts[0] == "live" or ready()
        return 200 if fine else 503, {str(parts[0]): fine}
    model = find(models, parts[0])
    if parts[1] is not None:
        model.choose(parts[1])
    if what == "ready":
        return (200 if ready() else 503), {"name": model.name, "ready": ready()}
    return 200, model.document()


def find(models: Mapping[str, Model], name: str | None) -> Model:
    """The model of that name. Raises :class:`ProtocolError` with 404."""
    if name not in models:
        raise ProtocolError(f"no model {name!r}; there are {', '.join(models)}", 404)
    return models[name]
