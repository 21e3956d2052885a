"""One function, loaded in different ways: the bodies of ``app.py`` whose cold starts the chapter compares.

Each is the loading code of a function (see :func:`beyondlab.inference.serving.module`) and can use the names that it
is given: ``path``, a file, and ``store``, the address of an object store. The digits functions take a list of images
of 64 numbers and give the probabilities of the ten digits; the ranker functions take lists of 8 row numbers and give
ten scores.
"""

from __future__ import annotations

ONNX = """\
import numpy
import onnxruntime
mark("imports")
model = open(path, "rb").read()
mark("model read")
session = onnxruntime.InferenceSession(model, options())
mark("session")

def predict(x):
    x = numpy.array(x, "float32")
    return session.run(["probabilities"], {"X": x})[0].tolist()
"""
"""The digits in ONNX Runtime."""

SKLEARN = """\
import numpy
import joblib
import sklearn.neural_network
mark("imports")
model = joblib.load(path)
mark("model read")

def predict(x):
    return model.predict_proba(numpy.array(x, "float32")).tolist()
"""
"""The digits in scikit-learn, unpickled."""

_SCORES = """\

def predict(x):
    return session.run(["scores"], {"ids": numpy.array(x, "int64")})[0].tolist()
"""

WHOLE = (
    """\
import numpy
import onnxruntime
from safetensors.numpy import load_file
mark("imports")
tensors = load_file(path.replace(".onnx", ".safetensors"))
mark("model read")
chosen = options()
values = map(onnxruntime.OrtValue.ortvalue_from_numpy, tensors.values())
chosen.add_external_initializers(list(tensors), list(values))
session = onnxruntime.InferenceSession(path, chosen)
mark("session")
"""
    + _SCORES
)
"""The ranker, every byte of its weights read into memory first, as most loading code does."""

MAPPED = (
    """\
import numpy
import onnxruntime
mark("imports")
session = onnxruntime.InferenceSession(path, options())
mark("session")
"""
    + _SCORES
)
"""The ranker, its safetensors file mapped by ONNX Runtime: a page is read when it is used."""

TRACED = MAPPED.replace("options())", "chosen)").replace(
    "session =", 'chosen = options()\nchosen.add_session_config_entry("session.disable_prepacking", "1")\nsession ='
)
"""The same without prepacking, which copies weights and unmaps the file: what was read stays in the page table."""

_DOWNLOAD = """\
import os, urllib.request

def download(name):
    with urllib.request.urlopen(f"{store}/{name}") as source, open(name, "wb") as target:
        while piece := source.read(1 << 20):
            target.write(piece)

"""

REMOTE = (
    _DOWNLOAD
    + """\
import numpy
import onnxruntime
mark("imports")
name = os.path.basename(path)
download(name)
download(name.replace(".onnx", ".safetensors"))
mark("model read")
session = onnxruntime.InferenceSession(name, options())
mark("session")
"""
    + _SCORES
)
"""The ranker, fetched from an object store after the imports, one after the other."""

BACKGROUND = (
    _DOWNLOAD
    + """\
import threading
name = os.path.basename(path)
weights = threading.Thread(target=download, args=[name.replace(".onnx", ".safetensors")])
weights.start()
import numpy
import onnxruntime
mark("imports")
download(name)
weights.join()
mark("model read")
session = onnxruntime.InferenceSession(name, options())
mark("session")
"""
    + _SCORES
)
"""The same, but the download runs in the background while the imports run."""

LATER = (
    _DOWNLOAD
    + """\
import threading
import numpy
import onnxruntime
mark("imports")
name = os.path.basename(path)
ready = threading.Event()

def load():
    global session
    download(name)
    download(name.replace(".onnx", ".safetensors"))
    session = onnxruntime.InferenceSession(name, options())
    ready.set()

threading.Thread(target=load, daemon=True).start()

def predict(x):
    ready.wait()
    return session.run(["scores"], {"ids": numpy.array(x, "int64")})[0].tolist()
"""
)
"""The same, but the function says that it is ready while it still loads: the first request waits instead."""
