"""Serverless for machine learning: a model server, its batches, its start, and what an answer costs.

ONNX Runtime's wheel for Linux (1.32.0) holds a telemetry client: on import it writes a file ``.ses`` into the temporary
folder and knows an address to report to. ``ORT_DISABLE_TELEMETRY=1`` switches that off. It is set here, before anything
imports ONNX Runtime, and inherited by every process that the lab starts. Set it yourself to decide otherwise.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
