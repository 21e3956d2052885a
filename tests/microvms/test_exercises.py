"""Checks of the exercises: right answers pass, wrong ones are told what is wrong."""

import pytest
from beyondlab.microvms import exercises

COUNTDOWN = bytes.fromhex("ba f803  b90300  b033  ee  fec8".replace("fec8", "2c01") + "e2fb b00a ee f4")
BUCKET = {"drive_id": "logs", "is_root_device": False, "is_read_only": True, "path_on_host": "logs.img"}


def renewing(state, generation, entropy):
    if generation != state["generation"]:
        state["generation"], state["seed"] = generation, entropy()
    state["seed"] = (state["seed"] * 25173 + 13849) % 65536
    return state["seed"]


def always(state, generation, entropy):
    state["seed"] = (entropy() * 25173 + 13849) % 65536
    return state["seed"]


def drive(**bandwidth):
    return BUCKET | {"rate_limiter": {"bandwidth": bandwidth}}


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_countdown, COUNTDOWN),
        (exercises.check_clone_memory, 4 * 128 * (1 - (127 / 128) ** 200)),
        (exercises.check_transfer, 1.5),
        (exercises.check_burst, 11.2),
        (exercises.check_renewal, renewing),
        (exercises.check_request, drive(size=20_000_000, refill_time=1000)),
        (exercises.check_request, drive(size=2_000_000, refill_time=100)),
        (exercises.check_wall, "microVM from a snapshot"),
    ],
)
def test_right(check, answer, capsys):
    assert check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("check", "answer", "told"),
    [
        (exercises.check_countdown, None, "Not answered yet"),
        (exercises.check_countdown, "f4", "Bytes are wanted"),
        (exercises.check_countdown, b"\xf4", "it says b''"),
        (exercises.check_countdown, b"\xeb\xfe", "had not halted"),
        (exercises.check_countdown, b"\x0f\xa2", "begins no instruction"),
        (exercises.check_countdown, b"\xe6\x10\xf4", "port 0x10"),
        (exercises.check_clone_memory, 800, "only 128"),
        (exercises.check_clone_memory, None, "Not answered"),
        (exercises.check_transfer, 3, "pass at once"),
        (exercises.check_burst, 400, "36"),
        (exercises.check_renewal, None, "Not answered"),
        (exercises.check_renewal, always, "Draw only when"),
        (exercises.check_request, None, "Not answered"),
        (exercises.check_request, {"drive_id": "logs"}, "missing field `is_root_device`"),
        (exercises.check_request, BUCKET, "bandwidth"),
        (exercises.check_request, drive(size=20_000_000, refill_time=1), "gets 200 MB/s"),
        (exercises.check_request, drive(size=0, refill_time=1), "switches the limit off"),
        (exercises.check_request, drive(size="20 MB", refill_time=1), "invalid type"),
        (exercises.check_wall, "namespaces", "share the host's kernel"),
    ],
)
def test_wrong(check, answer, told, capsys):
    assert not check(answer)
    assert told in capsys.readouterr().out
