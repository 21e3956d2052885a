"""The checks tell right from wrong, and say what is wrong."""

import json

import numpy as np
import pytest

from beyondlab.inference import exercises, model
from beyondlab.kit.prices import price

NOTICE = model.requests_to_notice(0.91, 0.83)
EVEN = price("inference.server") / 3600 / (price("lambda.requests") / 1e6 + 0.2 * price("lambda.duration-x86"))


@pytest.mark.parametrize(("check", "right", "wrong", "says"), [
    (exercises.check_download, 0.9, 1.2, "rest of the download"), (exercises.check_download, 0.9, 2.1, "same time"),
    (exercises.check_capacity, 1230.77, 76.9, "batches a second"), (exercises.check_capacity, 1230.77, 181.8, "one by one"),
    (exercises.check_notice, NOTICE, NOTICE / 20, "5 %"), (exercises.check_break_even, EVEN, EVEN * 3600, "an hour"),
])  # fmt: skip
def test_numbers(check, right, wrong, says, capsys):
    assert check(right)
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def test_diagnosis(capsys):
    assert exercises.check_hang("fork") and exercises.check_hang(" Fork ")
    assert not exercises.check_hang("network") and "goes on in the parent" in capsys.readouterr().out
    assert not exercises.check_hang("weather") and "not one of the options" in capsys.readouterr().out


def read(path, name):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        return np.frombuffer(file.read(end - begin), np.float32).reshape(entry["shape"])


def test_read_tensor(capsys):
    assert exercises.check_read_tensor(read)
    assert not exercises.check_read_tensor(lambda path, name: read(path, name).ravel())
    assert not exercises.check_read_tensor(lambda path, name: read(path, "first"))
    assert not exercises.check_read_tensor(lambda path, name: None) and "returned nothing" in capsys.readouterr().out
    assert not exercises.check_read_tensor(None) and "write the function" in capsys.readouterr().out


def greedy(arrivals, size, a, b):
    sizes, free, first = [], 0.0, 0
    while first < len(arrivals):
        go = max(free, arrivals[first])
        count = min(size, sum(t <= go for t in arrivals[first:]))
        sizes.append(count)
        free, first = go + a + b * count, first + count
    return sizes


def test_batcher():
    assert exercises.check_batcher(greedy)
    assert not exercises.check_batcher(lambda arrivals, size, a, b: greedy(arrivals, 99, a, b))
    assert not exercises.check_batcher(lambda arrivals, size, a, b: greedy(arrivals, size, a, 0.0))
    assert not exercises.check_batcher(lambda arrivals, size, a, b: [1] * len(arrivals))
    assert not exercises.check_batcher(None)


def test_split():
    def choose(traffic, draw):
        edge = 0.0
        for version, percentage in traffic.items():
            edge += percentage / 100
            if draw < edge:
                return version
        return version

    assert exercises.check_split(choose)
    assert not exercises.check_split(lambda traffic, draw: next(iter(traffic)))
    assert not exercises.check_split(lambda traffic, draw: choose(traffic, draw / 100))
    assert not exercises.check_split(lambda traffic, draw: None)


def test_decoder():
    from beyondlab.inference.protocol import DATATYPES

    assert exercises.check_decoder(lambda t: np.array(t["data"], DATATYPES[t["datatype"]]).reshape(t["shape"]))
    assert not exercises.check_decoder(lambda t: np.array(t["data"]).reshape(t["shape"]))
    assert not exercises.check_decoder(lambda t: t["data"])
    assert not exercises.check_decoder(lambda t: t["nothing"])
    assert not exercises.check_decoder(None)
