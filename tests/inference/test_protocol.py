"""The Open Inference Protocol: the specification's own examples, and NVIDIA's published client against the server."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beyondlab.inference import protocol
from beyondlab.inference.protocol import Model, ProtocolError, Request, Tensor

# kserve/open-inference-protocol, specification/protocol/inference_rest.md, "Inference Request Examples". Its BOOL
# tensor has shape [3] and one value; here it has the three that the shape asks for.
INPUTS = (Tensor("input0", "UINT32", (2, 2)), Tensor("input1", "BOOL", (3,)))
EXAMPLE = {
    "id": "42",
    "inputs": [
        {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
        {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True, False, True]},
    ],
    "outputs": [{"name": "output0"}],
}


def test_the_example_of_the_specification():
    request = protocol.decode_request(json.dumps(EXAMPLE).encode(), {}, INPUTS)
    assert request.id == "42" and request.outputs == ("output0",)
    assert request.inputs["input0"].tolist() == [[1, 2], [3, 4]] and request.inputs["input0"].dtype == np.uint32
    output = np.array([[1.0, 1.1], [2.0, 2.1], [3.0, 3.1]], np.float32)
    body, headers = protocol.encode_response("mymodel", "1", {"output0": output, "other": output}, request)
    document = json.loads(body)
    assert headers == {"Content-Type": "application/json"}
    assert document["id"] == "42" and document["model_name"] == "mymodel"
    (only,) = document["outputs"]
    assert (only["name"], only["shape"], only["datatype"]) == ("output0", [3, 2], "FP32")
    assert only["data"] == pytest.approx([1.0, 1.1, 2.0, 2.1, 3.0, 3.1])


# The Binary Tensor Data Extension (KServe and Triton): little-endian, row major, after the JSON, its length in a header
def test_binary_tensors_follow_the_json():
    raw = np.array([[1, 2], [3, 4]], "<u4").tobytes()
    document = json.loads(json.dumps(EXAMPLE))
    del document["inputs"][0]["data"]
    document["inputs"][0]["parameters"] = {"binary_data_size": 16}
    document["outputs"][0]["parameters"] = {"binary_data": True}
    text = json.dumps(document).encode()
    request = protocol.decode_request(text + raw, {"Inference-Header-Content-Length": str(len(text))}, INPUTS)
    assert request.inputs["input0"].tolist() == [[1, 2], [3, 4]]
    body, headers = protocol.encode_response("m", "1", {"output0": np.array([7.5], np.float32)}, request)
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert body[length:] == np.array([7.5], "<f4").tobytes()
    assert protocol.decode_response(body, headers)["output0"].tolist() == [7.5]


def changed(**changes):
    document = json.loads(json.dumps(EXAMPLE))
    document["inputs"][0] |= changes
    return json.dumps(document).encode()


@pytest.mark.parametrize(("body", "complaint"), [
    (b"{", "no JSON"), (b"[]", "list of inputs"), (b'{"inputs": []}', "missing"), (changed(name="x"), "unexpected input 'x'"),
    (changed(datatype="FP32"), "datatype 'FP32'"), (changed(shape=[4]), "shape"), (changed(shape=[2, -2]), "whole numbers"),
    (changed(data=[1, 2, 3]), "do not fit"), (changed(data=["a", 2, 3, 4]), "do not fit"), (changed(data=[-1, 2, 3, 4]), "do not fit"),
    (changed(parameters={"binary_data_size": 8}), "binary_data_size 8"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(body, complaint):
    with pytest.raises(ProtocolError, match=complaint) as caught:
        protocol.decode_request(body, {}, INPUTS)
    assert caught.value.status == 400


def test_lengths_and_leftovers_are_refused():
    body = json.dumps(EXAMPLE).encode()
    with pytest.raises(ProtocolError, match="the body has"):
        protocol.decode_request(body, {"inference-header-content-length": str(len(body) + 1)}, INPUTS)
    with pytest.raises(ProtocolError, match="belong to no input"):
        protocol.decode_request(body + b"1234", {"inference-header-content-length": str(len(body))}, INPUTS)
    with pytest.raises(ProtocolError, match="unexpected output"):
        protocol.encode_response("m", "1", {}, Request({}, outputs=("y",)))


@given(
    hnp.arrays(
        st.sampled_from([np.dtype("<f4"), np.dtype("<f8"), np.dtype("<i8"), np.dtype("<i4"), np.dtype("u1"), np.dtype(bool)]),
        hnp.array_shapes(max_dims=3, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.booleans(),
)
def test_every_tensor_survives_the_way_there_and_back(value, binary):
    tensor = Tensor("x", protocol._datatype(value), (-1,) * value.ndim)
    sent = protocol.decode_request(json.dumps(protocol.encode_request({"x": value})).encode(), {}, [tensor])
    back = protocol.encode_response("m", "1", sent.inputs, Request({}, binary_default=binary))
    found = protocol.decode_response(*back)["x"]
    assert found.dtype == value.dtype and np.array_equal(found, value)


# The table of paths in the specification
@pytest.mark.parametrize(("method", "path", "what", "parts"), [
    ("GET", "/v2", "server", ()), ("GET", "/v2/health/live", "health", ("live",)), ("GET", "/v2/health/ready", "health", ("ready",)),
    ("GET", "/v2/models/m", "model", ("m", None)), ("GET", "/v2/models/m/versions/v10", "model", ("m", "v10")),
    ("GET", "/v2/models/m/ready", "ready", ("m", None)), ("GET", "/v2/models/m/versions/2/ready", "ready", ("m", "2")),
    ("POST", "/v2/models/m/infer", "infer", ("m", None)), ("POST", "/v2/models/m/versions/2/infer", "infer", ("m", "2")),
])  # fmt: skip
def test_paths(method, path, what, parts):
    assert protocol.route(method, path) == (what, parts)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/models/m", 404), ("GET", "/v2/models/m/infer", 405), ("POST", "/v2", 405)])
def test_other_paths(method, path, status):
    with pytest.raises(ProtocolError) as caught:
        protocol.route(method, path)
    assert caught.value.status == status


def model(**changes):
    return Model("m", "p", INPUTS, (), {"1": None, "2": None}, **changes)


def test_traffic_is_split_and_taken_back():
    served = model(traffic={"1": 90, "2": 10}, seed=1)
    chosen = [served.choose() for _ in range(5_000)]
    assert 0.085 < chosen.count("2") / 5_000 < 0.115
    assert served.choose("2") == "2"
    served.split({"1": 100})
    assert {served.choose() for _ in range(200)} == {"1"}
    assert model().traffic == {"2": 100}, "the newest, if nothing is said"


@pytest.mark.parametrize(("traffic", "complaint"), [({"1": 50}, "must make 100"), ({"3": 100}, "version '3'"), ({"1": 120, "2": -20}, "percentage")])
def test_splits_are_checked(traffic, complaint):
    served = model(traffic={"1": 100})
    with pytest.raises(ValueError, match=complaint):
        served.split(traffic)
    assert served.traffic == {"1": 100}


def test_unknown_models_and_versions():
    served = {"m": model()}
    for what, parts in (("model", ("x", None)), ("model", ("m", "9"))):
        with pytest.raises(ProtocolError) as caught:
            protocol.describe(what, parts, served, lambda: True)
        assert caught.value.status == 404
    assert protocol.describe("ready", ("m", None), served, lambda: False) == (503, {"name": "m", "ready": False})
    assert protocol.describe("health", ("live",), served, lambda: False)[0] == 200
