"""The models of "Serverless for machine learning": one trained, one large with generated weights.

*Digits* is a real classifier: a perceptron with one hidden layer, trained on the 8 × 8 digits that ship with
scikit-learn (1,797 images, from the UCI repository), exported to ONNX and pickled for comparison.

*Ranker* makes loading visible: a table of embeddings and a dense tower behind it, 253 MB in one safetensors file, with
seeded random weights. Its answers mean nothing; that they stay the same does. Its ONNX graph (3 kB) points *into* the
safetensors file (external data, see "ONNX IR specification"), so that both formats share one set of weights.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check

ROWS, WIDTH, HIDDEN, LAYERS, CLASSES, PICKED = 180_224, 256, 1_024, 16, 10, 8
"""The ranker: rows and columns of its table, width and number of its layers, outputs, rows that a request picks."""

DTYPES = {"F32": np.dtype("<f4"), "I8": np.dtype("<i1")}
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Digits:
    """The digits, split: images of shape (n, 64) as float32 from 0 to 1, labels of shape (n,)."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def digits(train: int = 1_400) -> Digits:
    """The data: the first ``train`` of 1,797 images to learn from, the rest to test. Raises ValueError beyond that."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    if not 0 < train < len(y):
        raise ValueError(f"train={train!r}: must lie between 1 and {len(y) - 1}")
    x = (x / 16).astype(np.float32)
    return Digits(x[:train], y[:train], x[train:], y[train:])


def train(data: Digits, *, hidden: int = 64, epochs: int = 25, seed: int = 0) -> Any:
    """A fitted ``sklearn.neural_network.MLPClassifier`` with one layer of ``hidden`` units, on one thread."""
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    model = MLPClassifier((hidden,), max_iter=epochs, batch_size=64, learning_rate_init=0.005, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could be trained for longer
        return model.fit(data.x_train, data.y_train)


def export(model: Any, folder: Path) -> tuple[Path, Path]:
    """Write the classifier as ``digits.onnx`` and ``digits.joblib``; their paths."""
    import joblib
    from skl2onnx import to_onnx

    graph = to_onnx(model, np.zeros((1, model.n_features_in_), np.float32), options={"zipmap": False})
    onnx, pickled = folder / "digits.onnx", folder / "digits.joblib"
    onnx.write_bytes(graph.SerializeToString())
    joblib.dump(model, pickled)
    return onnx, pickled


def quantise(onnx: Path) -> Path:
    """The same graph with 8-bit weights, by ONNX Runtime's own tool (dynamic quantisation); the path beside it,
    which is made once."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = onnx.with_suffix(".int8.onnx")
    if target.exists():
        return target
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(onnx, target, weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    return target


# safetensors, from its format description: 8 bytes of header length, little-endian; a JSON header; the tensors


def write_safetensors(path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...], Iterable[NDArray[Any]]]]) -> None:
    """Write a safetensors file piece by piece, so that no tensor has to be in memory whole.

    ``tensors``: name, dtype (``"F32"`` or ``"I8"``), shape, and the pieces whose rows make it up. Raises ValueError if
    the pieces do not fill the shape.
    """
    tensors = list(tensors)
    header: dict[str, Any] = {}
    offset = 0
    for name, dtype, shape, _ in tensors:
        size = math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dtype, shape, pieces in tensors:
            begin = file.tell()
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, DTYPES[dtype]).data)
            if file.tell() - begin != math.prod(shape) * DTYPES[dtype].itemsize:
                raise ValueError(f"tensors: the pieces of {name!r} do not fill its shape {shape}")


def header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, in bytes, and the JSON header of a safetensors file. Raises ValueError if it is none."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            raise ValueError(f"path={str(path)!r}: no safetensors file, its header would have {length} bytes")
        return 8 + length, json.loads(file.read(length))


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, mapped: nothing is read before it is used."""
    start, described = header(path)
    return {
        name: np.memmap(path, DTYPES[d["dtype"]], "r", start + d["data_offsets"][0], tuple(d["shape"]))
        for name, d in described.items()
        if name != "__metadata__"
    }


# The ranker


def _layers() -> dict[str, tuple[int, int]]:
    dense = {f"dense{i}": (HIDDEN, HIDDEN) for i in range(LAYERS)}
    return {"up": (WIDTH, HIDDEN)} | dense | {"head": (HIDDEN, CLASSES)}


def _table(rows: int, seed: int) -> Iterator[NDArray[np.float32]]:
    for block in range(0, rows, 4_096):
        rng = np.random.default_rng([seed, block])
        yield rng.random((min(4_096, rows - block), WIDTH), dtype=np.float32) - np.float32(0.5)


def _weights(name: str, seed: int) -> NDArray[np.float32]:
    """A dense layer whose outputs are about as large as its inputs (K. He et al., ICCV 2015)."""
    shape = _layers()[name]
    rng = np.random.default_rng([seed, 1 << 32, list(_layers()).index(name)])
    return (rng.random(shape, dtype=np.float32) - np.float32(0.5)) * np.float32(2 * math.sqrt(6 / shape[0]))


def write_ranker(folder: Path, *, rows: int = ROWS, seed: int = 0) -> Path:
    """``ranker.safetensors`` and the graph ``ranker.onnx`` that points into it; the path of the graph.

    The graph takes ``ids``, int64 of shape (n, 8), and gives ``scores``, float32 of shape (n, 10).
    """
    weights = folder / "ranker.safetensors"
    tensors = [(name, "F32", shape, [_weights(name, seed)]) for name, shape in _layers().items()]
    write_safetensors(weights, [*tensors, ("table", "F32", (rows, WIDTH), _table(rows, seed))])
    nodes: list[Any] = [
        ("Gather", ["table", "ids"], ["rows"], {}),
        ("ReduceMean", ["rows"], ["pooled"], {"axes": [1], "keepdims": 0}),
    ]
    last = "pooled"
    for name in _layers():
        nodes.append(("MatMul", [last, name], [f"{name}.x"], {}))
        last = f"{name}.x"
        if name.startswith("dense"):
            nodes.append(("Relu", [last], [f"{name}.y"], {}))
            last = f"{name}.y"
    return _write_graph(folder / "ranker.onnx", weights, nodes, last)


def write_quantised_ranker(folder: Path, *, rows: int = ROWS, seed: int = 0) -> Path:
    """The same ranker in 8 bits, ``ranker8.safetensors`` and ``ranker8.onnx``: a quarter of the bytes.

    Weights are quantised symmetrically, the table by row, a layer by column; activations by ONNX's
    DynamicQuantizeLinear, products by MatMulInteger, as ONNX Runtime's own dynamic quantisation does it.
    """
    weights = folder / "ranker8.safetensors"
    tensors: list[Any] = []
    for name, shape in _layers().items():
        values, scale = quantised(_weights(name, seed), axis=0)
        tensors += [(name, "I8", shape, [values]), (f"{name}.scale", "F32", scale.shape, [scale])]
    # With one scale for the whole table its pieces need not be seen twice: its values lie within ±0.5
    table = (np.round(piece * np.float32(254)).astype(np.int8) for piece in _table(rows, seed))
    tensors += [("table", "I8", (rows, WIDTH), table), ("table.scale", "F32", (1,), [np.array([1 / 254], np.float32)])]
    write_safetensors(weights, tensors)
    nodes: list[Any] = [
        ("Gather", ["table", "ids"], ["rows8"], {}),
        ("Cast", ["rows8"], ["rows"], {"to": 1}),
        ("ReduceMean", ["rows"], ["mean"], {"axes": [1], "keepdims": 0}),
        ("Mul", ["mean", "table.scale"], ["pooled"], {}),
    ]
    last = "pooled"
    for name in _layers():
        q, s, z, i, f, fs = (f"{name}.{part}" for part in ("q", "s", "z", "i", "f", "fs"))
        nodes += [
            ("DynamicQuantizeLinear", [last], [q, s, z], {}),
            ("MatMulInteger", [q, name, z], [i], {}),
            ("Cast", [i], [f], {"to": 1}),
            ("Mul", [s, f"{name}.scale"], [fs], {}),
            ("Mul", [f, fs], [f"{name}.x"], {}),
        ]
        last = f"{name}.x"
        if name.startswith("dense"):
            nodes.append(("Relu", [last], [f"{name}.y"], {}))
            last = f"{name}.y"
    return _write_graph(folder / "ranker8.onnx", weights, nodes, last)


def quantised(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric 8-bit weights with one scale along ``axis``: values q and scales s with q * s close to the weights.

    No value is off by more than half a scale.
    """
    scale = np.abs(weights).max(axis=axis, keepdims=True) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.round(weights / scale).astype(np.int8), scale.squeeze(axis).astype(np.float32)


def _write_graph(path: Path, weights: Path, nodes: list[Any], scores: str) -> Path:
    from onnx import TensorProto, helper

    start, described = header(weights)
    initialisers = []
    for name, d in described.items():
        tensor = TensorProto(name=name, dims=d["shape"], data_location=TensorProto.EXTERNAL)
        tensor.data_type = TensorProto.FLOAT if d["dtype"] == "F32" else TensorProto.INT8
        begin, end = d["data_offsets"]
        for key, value in {"location": weights.name, "offset": start + begin, "length": end - begin}.items():
            tensor.external_data.add(key=key, value=str(value))
        initialisers.append(tensor)
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **extra) for kind, inputs, outputs, extra in nodes]
        + [helper.make_node("Identity", [scores], ["scores"])],
        path.stem,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", PICKED])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        initializer=initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def requests(count: int, *, rows: int = ROWS, seed: int = 1) -> NDArray[np.int64]:
    """Inputs for the ranker, int64 of shape (count, 8), drawn uniformly."""
    check.whole("count", count, 1)
    return np.random.default_rng(seed).integers(0, rows, (count, PICKED))
