"""The two scores that no simulation gives: isolation, an ordinal level, and portability, a share of work. Both by rule."""

from __future__ import annotations

from beyondlab.capstone.numbers import WALLS
from beyondlab.capstone.product import Choice
from beyondlab.kit.tables import Table, table
from beyondlab.knative import portability as contract
from beyondlab.knative.model import HOURS, Move, Part
from beyondlab.microvms.model import THREATS

HANDLER = '''
LIMITS = {"temperature": (-20.0, 80.0), "pressure": (0.5, 9.0), "vibration": (0.0, 12.0)}

def scale(kind, value):
    low, high = LIMITS[kind]
    return (value - low) / (high - low)

def features(reading, past):
    now = scale(reading["kind"], reading["value"])
    mean = sum(past) / len(past) if past else now
    spread = max(past) - min(past) if past else 0.0
    return [now, now - mean, spread]

def handle(event):
    reading, past = event["data"]["reading"], event["data"]["past"]
    risk = model.run(features(reading, past))
    state = "alert" if risk > 0.5 else "fine"
    return {"specversion": "1.0", "id": event["id"], "source": "/enrich",
            "type": "reading." + state, "data": {"device": reading["device"], "risk": risk}}
'''
"""The enrichment, as it is written once: its lines are what moves unchanged."""

PLACE = {"functions": "AWS runtime client", "knative": "functions-framework", "serverless containers": "functions-framework",
         "containers": "ASGI"}  # fmt: skip
"""Compute -> the place of the Knative chapter's contract whose adapter it needs."""
STATE_HOURS = 8.0
"""Hours to write the state's part again, a function; chosen, twice those of events."""

MOVES = {
    "configuration": {"own": 0.9, "serverless containers": 0.5, "functions": 0.2},
    "limits": {"own": 0.9, "serverless containers": 0.5, "functions": 0.2},
    "identity": {"mesh": 0.9, "own": 0.6, "managed": 0.2},
    "events": {"direct": 1.0, "queue, own": 0.9, "queue, managed": 0.3, "log, own": 0.9, "log, managed": 0.8},
    "state": {"key-value, own": 0.9, "key-value, managed": 0.3, "entity, own": 0.6, "entity, managed": 0.1,
              "database, own": 0.9, "database, managed": 0.9},
}  # fmt: skip
"""Part -> what it is -> the share of it that moves as it is. Judged, not measured: see ``REASONS``."""

REASONS = {
    "code": "lines of the handler over lines of handler and adapter, counted by the Knative chapter",
    "configuration": "Kubernetes objects move; a platform's service description in part; a function's hardly",
    "limits": "what you set on your own clusters is yours; a platform's sizes and time-outs are its own",
    "identity": "SPIFFE identities of a mesh move; service accounts in part; a platform's roles do not",
    "events": "a call is HTTP; NATS and the protocol of Kafka run anywhere; a platform's queue has an API of its own",
    "state": "SQL and a store that you run move; an engine's workflows in part; a platform's table or objects hardly",
}


def isolation(choice: Choice) -> int:
    """Level from 1 to 5: the strongest threat that the wall is used against (1 to 3, the microvms chapter's), one more
    for a kernel of its own, one more for an identity of each service: a mesh's, or the managed platform's."""
    wall = WALLS[choice.isolation].strength
    own_kernel = choice.isolation == "microvm"
    identity = choice.mesh != "none" or choice.orchestration == "managed"
    return wall + own_kernel + identity


def levels() -> Table:
    """What the levels stand for."""
    names = {level: name for name, level in THREATS.items()}
    return table(
        ["Part of the level", "Points", "For"],
        [
            *[[f"wall used against {names[n]}", n, {1: "a process", 2: "containers", 3: "gVisor, microVMs"}[n]] for n in (1, 2, 3)],
            ["a kernel of its own", 1, "microVMs"],
            ["an identity for each service", 1, "a mesh, or a managed platform"],
        ],
        align="lrl",
    )


def parts(choice: Choice) -> tuple[Part, ...]:
    """What a move of this design touches, with the share of each that moves as it is."""
    where = "own" if choice.own_clusters else "managed"
    home = "own" if choice.own_clusters else choice.compute
    who = "mesh" if choice.mesh != "none" else where
    events = choice.events if choice.events == "direct" else f"{choice.events}, {where}"
    shares = {
        "code": contract.moved_share(HANDLER, PLACE[choice.compute]),
        "configuration": MOVES["configuration"][home],
        "events": MOVES["events"][events],
        "identity": MOVES["identity"][who],
        "limits": MOVES["limits"][home],
        "state": MOVES["state"][f"{choice.state}, {where}"],
    }
    return tuple(Part(name, share, HOURS.get(name, STATE_HOURS)) for name, share in shares.items())


def portability(choice: Choice) -> float:
    """Share of the work of a move that need not be done: 1 less the hours left over all hours."""
    move = Move(parts(choice), functions=1)
    return 1 - move.hours / sum(part.hours for part in move.parts)


def reasons() -> Table:
    """Each part of a move, what of it moves, and why."""
    rows = [["code", "counted", REASONS["code"]]]
    rows += [[part, ", ".join(f"{what}: {share:g}" for what, share in of.items()), REASONS[part]] for part, of in MOVES.items()]
    return table(["Part", "Moves as it is", "Why"], rows)
