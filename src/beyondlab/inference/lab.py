"""The lab of "Serverless for machine learning": real starts, real blocks, a real batcher.

The models live in one scratch folder a kernel, made when they are first needed and removed by :func:`tidy` or, at the
latest, when the interpreter ends or is killed: 0.3 GB, and as much again while a start downloads its weights.
"""

from __future__ import annotations

import importlib.util
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from beyondlab.inference import batching, blocks, cures, load, models, phases, protocol, server, serving, store, zygote
from beyondlab.kit import processes
from beyondlab.kit.recordings import Lab, measure

BANDWIDTH = 400e6
"""Bytes a second of the lab's object store: 3.2 Gbit/s, an assumption."""
_COMPONENTS = ["awslambdaric", "functions-framework", "onnxruntime", "safetensors", "scikit-learn"]


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if platform.system() != "Linux":
        return "it needs Linux: both runtimes, and one clock for parent and child"
    for module in ("awslambdaric", "functions_framework"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None


lab = Lab("machine-learning", missing=missing, components=_COMPONENTS)
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""
blocks_lab = Lab("machine-learning", missing=lambda: missing() or blocks.missing(), components=_COMPONENTS)
"""The same for what needs the page table of a process."""

_made = ExitStack()
_folder: Path | None = None


def folder() -> Path:
    """The scratch folder of the models."""
    global _folder
    if _folder is None or not _folder.is_dir():
        _folder = Path(_made.enter_context(processes.scratch("models-")))
    return _folder


def tidy() -> None:
    """Remove the models from the disk. May be called twice; they are made again when needed."""
    global _folder
    _made.close()
    _folder = None


def _once(name: str, make: Callable[[Path], Any]) -> Path:
    path = folder() / name
    if not path.exists():
        make(folder())
    return path


def ranker() -> Path:
    """The graph of the large model, weights beside it."""
    return _once("ranker.onnx", models.write_ranker)


def ranker8() -> Path:
    """The same in 8 bits."""
    return _once("ranker8.onnx", models.write_quantised_ranker)


# Cold starts


def start(
    host: type[serving.Lambda] | type[serving.CloudRun], body: str, question: Any, *, later: int = 0, **names: Any
) -> dict[str, Any]:
    """One start: ``value``, milliseconds of each phase, ``total``, median of ``later`` answers, ``memory`` in MB."""
    weights = Path(names["path"]).with_suffix(".safetensors")
    if weights.exists():
        serving.evict(weights)
    with host(body, **names) as running:
        first = running.ask(question)
        found: dict[str, Any] = {name: 1e3 * seconds for name, seconds in first.phases.items()}
        found |= {"value": first.value, "total": 1e3 * phases.total(first.phases), "memory": running.memory() / 1e6}
        if later:
            found["later"] = float(np.median([1e3 * running.ask(question).seconds for _ in range(later)]))
        return found


def compare(
    variants: Mapping[str, Callable[[], dict[str, Any]]], *, repetitions: int, key: str = "total"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run each variant ``repetitions`` times, taking turns; ``key`` in ms, and each variant's last answer."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    values: dict[str, Any] = {}
    for _ in range(repetitions):
        for name, run in variants.items():
            found = run()
            samples[name].append(found[key])
            values[name] = found["value"]
    return {name: measure("ms", times) for name, times in samples.items()}, values


def difference(one: Any, other: Any) -> float:
    """The largest absolute difference between two answers of the same shape."""
    return float(np.abs(np.subtract(one, other)).max())


def platforms(path: Path, question: Any, *, repetitions: int = 3) -> dict[str, Any]:
    """The digits on both platforms: ms of every phase, of the whole, and of later requests."""
    hosts = {"Lambda": serving.Lambda, "Cloud Run": serving.CloudRun}
    found = {
        name: [start(host, cures.ONNX, question, later=30, path=path) for _ in range(repetitions)]
        for name, host in hosts.items()
    }
    result = {
        f"{name}: {phase}": measure("ms", [one[phase] for one in starts])
        for name, starts in found.items()
        for phase in (*phases.PHASES, "total", "later")
    }
    return result | {"same answer": difference(found["Lambda"][0]["value"], found["Cloud Run"][0]["value"]) < 1e-6}


def clones(question: Any, *, count: int = 6) -> dict[str, Any]:
    """The ranker in a zygote: ms of its init and of each clone's first answer, MB private to a clone, shared MB."""
    with zygote.Zygote(serving.module(cures.MAPPED, path=ranker())) as parent:
        made = [parent.clone(question) for _ in range(count)]
        return {
            "init, once": measure("ms", [1e3 * parent.init]),
            "clone, first answer": measure("ms", [1e3 * clone.seconds for clone in made]),
            "private memory of a clone": measure("MB", [clone.private / 1e6 for clone in made]),
            "shared memory": measure("MB", [clone.shared / 1e6 for clone in made]),
            "answer": made[-1].value[0],
        }


# Lazy loading


def images() -> tuple[blocks.Image, blocks.Image]:
    """Two images over one base: the ranker in ONNX Runtime, and the digits in scikit-learn."""
    base = set(blocks.distribution_files("functions-framework"))
    numbers = set(blocks.distribution_files("numpy")) - base
    runtime = set(blocks.distribution_files("onnxruntime")) - base - numbers
    sklearn = set(blocks.distribution_files("scikit-learn")) - base - numbers
    pickled = (folder() / "digits.joblib").resolve()
    weights = [ranker().resolve(), ranker().with_suffix(".safetensors").resolve()]
    return (
        blocks.Image({"framework": base, "numpy": numbers, "onnxruntime": runtime, "weights": weights}),
        blocks.Image({"framework": base, "numpy": numbers, "scikit-learn": sklearn, "weights": [pickled]}),
    )


def lazy_loading(questions: tuple[Any, Any]) -> dict[str, Any]:
    """Shares of blocks that a start touches, that two images share, and that a second start finds loaded.

    ``questions``: one for the ranker, one for the digits. ``digits.joblib`` must be in :func:`folder`.
    """
    if not (folder() / "digits.joblib").exists():
        models.export(models.train(models.digits()), folder())
    ranked, classified = images()
    weights = ranker().with_suffix(".safetensors").resolve()
    framework = 'import os\nos.environ["BORN"] = "0"\nimport functions_framework\n'
    codes = [
        framework + serving.module(body, path=path) + f"\npredict({question!r})\n"
        for body, path, question in (
            (cures.TRACED, ranker(), questions[0]),
            (cures.SKLEARN, folder() / "digits.joblib", questions[1]),
        )
    ]
    serving.evict(weights)
    ranges = [blocks.trace(codes[0], mapped_only=[weights]), blocks.trace(codes[1])]
    touched = [ranked.touched(ranges[0]), classified.touched(ranges[1])]
    hashes = [ranked.hashes(), classified.hashes()]
    warm = {hashes[1][number] for number in touched[1]}
    files = {file.path for file in ranked.files}
    read = sum(end - begin for path, pairs in ranges[0].items() if path in files for begin, end in pairs)
    first, last = ranked.layers["weights"]
    packages = {number for number in touched[0] if number < first}
    packages_only = [
        [file.path for file in image.files if file.path.suffix not in (".safetensors", ".joblib")]
        for image in (ranked, classified)
    ]
    mixed = [blocks.Image({"all": paths}).hashes() for paths in packages_only]
    return {
        "ranker image, MB": ranked.bytes / 1e6,
        "scikit-learn image, MB": classified.bytes / 1e6,
        "blocks": ranked.blocks,
        "touched": len(touched[0]) / ranked.blocks,
        "touched, packages": len(packages) / first,
        "touched, weights": (len(touched[0]) - len(packages)) / (last - first),
        "touched, scikit-learn image": len(touched[1]) / classified.blocks,
        "bytes touched": read / ranked.bytes,
        "shared": blocks.shared(hashes[1], hashes[0]),
        "shared, files in one layer": blocks.shared(mixed[1], mixed[0]),
        "already loaded by the other": sum(hashes[0][number] in warm for number in touched[0]) / len(touched[0]),
        "map": [2 * (number in touched[0]) + (hashes[0][number] in set(hashes[1])) for number in range(ranked.blocks)],
        "layers": {name: list(edges) for name, edges in ranked.layers.items()},
    }


# Batching


def bodies(count: int, *, name: str = "ids", seed: int = 1) -> list[bytes]:
    """Requests of one row each for the ranker, encoded."""
    rows = models.requests(count, seed=seed)
    return [json.dumps(protocol.encode_request({name: rows[i : i + 1]})).encode() for i in range(count)]


def batches(answers: load.Answers) -> tuple[list[int], list[float]]:
    """Size and seconds of every batch that the answers tell of."""
    found = {a["parameters"]["batch"]: (a["parameters"]["size"], a["parameters"]["seconds"]) for a in answers.documents}
    return [size for size, _ in found.values()], [seconds for _, seconds in found.values()]


POLICIES = {"one by one": (1, 0.0), "batches, no delay": (16, 0.0), "batches, 20 ms": (16, 0.02)}
"""Name to size and delay (seconds) of the batchers that are compared."""


def batching_runs(
    *,
    heavy: float = 2.5,
    light: float = 0.2,
    counts: tuple[int, int] = (200, 30),
    attempts: int = 3,
    tolerance: float = 1.3,
) -> dict[str, Any]:
    """The ranker behind the batcher, over HTTP, under a heavy and a light load; measured, and modelled.

    ``heavy`` and ``light`` are loads in units of what the model can do one by one, timed just before. Arrivals are
    Poisson, the same for each batcher and for its model; the model draws the duration of a batch of a given size from
    those that the server measured in the same run. A load is run again, ``attempts`` times at most, where something else
    took the processor in the middle of it: a throughput and its model differ by more than ``tolerance``, or the heavy
    load was none, since the model one by one answered nearly all of it in time. The attempt nearest to its model is kept.
    """
    import urllib.request

    from beyondlab import sim

    found: dict[str, Any] = {}
    with server.model_server("ranker", {"1": ranker()}) as url:
        load.replay(f"{url}/v2/models/ranker/infer", [0.0] * 8, bodies(8))
        for name, factor, count in (("heavy", heavy, counts[0]), ("light", light, counts[1])):
            tried = []
            for _ in range(attempts):
                with urllib.request.urlopen(f"{url}/curve?sizes=1,2,4,8,16", timeout=60) as answer:
                    curve = json.loads(answer.read())
                due = sim.poisson(factor / curve[0], count=count, seed=3)
                runs = {policy: _batcher_run(url, due, *settings) for policy, settings in POLICIES.items()}
                apart = max(abs(math.log(run["per second"] / run["model per second"])) for run in runs.values())
                slow = name == "light" or runs["one by one"]["per second"] < 0.7 * count / due[-1]
                tried.append((not slow, apart, curve, runs))
                if slow and apart < math.log(tolerance):
                    break
            _, _, curve, runs = min(tried, key=lambda attempt: attempt[:2])
            found |= {f"batch of {size}": 1e3 * seconds for size, seconds in zip((1, 2, 4, 8, 16), curve)}
            found[f"{name}: offered"] = factor / curve[0]
            found |= {f"{name}, {policy}: {key}": value for policy, run in runs.items() for key, value in run.items()}
    return found


def _batcher_run(url: str, due: Any, size: int, delay: float) -> dict[str, float]:
    """One load through one batcher: throughput (per second), times (ms), mean batch, each beside its model."""
    import urllib.request

    settings = urllib.request.Request(f"{url}/batching", json.dumps({"size": size, "delay": delay}).encode())
    urllib.request.urlopen(settings, timeout=30).read()
    answers = load.replay(f"{url}/v2/models/ranker/infer", due, bodies(len(due)))
    measured = batches(answers)
    modelled = batching.simulate(due, batching.resampled(*measured), size=size, delay=delay)
    return {
        "per second": answers.throughput,
        "p50": 1e3 * answers.percentile(50),
        "p99": 1e3 * answers.percentile(99),
        "waited": 1e3 * float(np.median([a["parameters"]["waited"] for a in answers.documents])),
        "batch": float(np.mean(measured[0])),
        "model per second": modelled.throughput,
        "model p50": 1e3 * modelled.percentile(50),
        "model p99": 1e3 * modelled.percentile(99),
        "model batch": modelled.mean_size,
    }


# Versions


def canary(
    versions: Mapping[str, Path], x: Any, labels: Sequence[int], splits: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Digits served in versions: send every image under each split in turn; requests and correct answers by version.

    One key a split and version, ``"5 %: version 2"``, with [requests, right].
    """
    import urllib.request

    found: dict[str, Any] = {}
    with server.model_server("digits", versions, size=8) as url:
        texts = [json.dumps(protocol.encode_request({"X": x[i : i + 1]})).encode() for i in range(len(labels))]
        for step, split in enumerate(splits, 1):
            change = urllib.request.Request(f"{url}/traffic", json.dumps(split).encode())
            urllib.request.urlopen(change, timeout=30).read()
            answers = load.replay(f"{url}/v2/models/digits/infer", np.arange(len(labels)) / 600, texts)
            for version in versions:
                mine = [i for i, a in enumerate(answers.documents) if a["model_version"] == version]
                right = sum(_label(answers.documents[i]) == int(labels[i]) for i in mine)
                found[f"step {step}: version {version}"] = [len(mine), right]
    return found


def _label(document: Any) -> int:
    return int(next(output["data"][0] for output in document["outputs"] if output["name"] == "label"))


__all__ = [
    "BANDWIDTH",
    "POLICIES",
    "blocks_lab",
    "canary",
    "clones",
    "compare",
    "difference",
    "folder",
    "lab",
    "lazy_loading",
    "platforms",
    "ranker",
    "ranker8",
    "start",
    "store",
    "tidy",
]
