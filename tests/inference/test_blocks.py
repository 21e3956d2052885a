"""Images in blocks: layout, hashes, what a start touches."""

import hashlib
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.inference import blocks, serving
from beyondlab.inference.blocks import BLOCK, PAGE, Image

traced = pytest.mark.skipif(blocks.missing() is not None and os.environ.get("CI") != "true", reason=str(blocks.missing()))


@pytest.fixture
def files(tmp_path):
    def make(**contents):
        paths = []
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            paths.append(tmp_path / name)
        return paths

    return make


def test_files_begin_on_pages_layers_on_blocks(files):
    image = Image({"base": files(a=b"x", b=b"y" * (PAGE + 1)), "top": files(c=b"z")})
    assert [placed.offset for placed in image.files] == [0, PAGE, BLOCK]
    assert image.layers == {"base": (0, 1), "top": (1, 2)} and image.blocks == 2 and image.bytes == PAGE + 3


def test_hashes_are_those_of_the_flat_image(files):
    image = Image({"base": files(a=os.urandom(10_000), b=os.urandom(3 * BLOCK + 17)), "top": files(c=os.urandom(99))})
    flat = bytearray(image.blocks * BLOCK)
    for placed in image.files:
        flat[placed.offset : placed.offset + placed.size] = placed.path.read_bytes()
    wanted = [hashlib.sha256(flat[i : i + BLOCK]).hexdigest() for i in range(0, len(flat), BLOCK)]
    assert image.hashes() == wanted


def test_layers_make_equal_blocks_where_one_run_makes_none(files):
    base = files(b=os.urandom(2 * BLOCK), d=os.urandom(2 * BLOCK))
    one, other = files(a=os.urandom(100)), files(c=os.urandom(9_000))
    layered = [Image({"base": base, "top": top}).hashes() for top in (one, other)]
    mixed = [Image({"all": [*base, *top]}).hashes() for top in (one, other)]
    assert blocks.shared(*layered) == pytest.approx(4 / 5)
    assert blocks.shared(*mixed) == 0
    assert np.isnan(blocks.shared([], ["x"]))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_touched_blocks_are_those_under_the_ranges(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("image")
    sizes = data.draw(st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=4))
    for number, size in enumerate(sizes):
        with (folder / str(number)).open("wb") as file:
            file.truncate(size)
    image = Image({"all": [folder / str(number) for number in range(len(sizes))]})
    placed = data.draw(st.sampled_from(image.files))
    begin = data.draw(st.integers(0, placed.size - 1))
    end = data.draw(st.integers(begin + 1, placed.size + 5_000))
    wanted = {(placed.offset + byte) // BLOCK for byte in {begin, min(end, placed.size) - 1, *range(begin, min(end, placed.size), PAGE)}}
    assert image.touched({placed.path: [(begin, end)], folder / "elsewhere": [(0, 10)]}) == wanted


def test_pages_in_the_page_table():
    """Bit 63 of an entry says that the page is present (kernel documentation, Documentation/admin-guide/mm/pagemap.rst)."""
    maps = (
        "7f0000000000-7f0000004000 r--p 00002000 fe:00 123   /lib/with space.so\n"
        "7f0000010000-7f0000011000 rw-p 00000000 00:00 0     [heap]\n"
        "7f0000020000-7f0000021000 r--p 00000000 fe:00 5     /lib/untouched.so\n"
    )
    present = {
        0x7F0000000000: struct.pack("<4Q", 1 << 63, 1 << 63 | 1 << 61, 1 << 62, 1 << 63),
        0x7F0000020000: struct.pack("<Q", 1 << 61),
    }
    found = blocks.mapped_pages(maps, present)
    assert found == {"/lib/with space.so": [(0x2000, 0x4000), (0x5000, 0x6000)]}


@traced
def test_a_trace_sees_what_was_mapped_and_what_was_read(tmp_path):
    big, read, unread = tmp_path / "big", tmp_path / "read", tmp_path / "unread"
    big.write_bytes(bytes(8 * BLOCK))
    read.write_bytes(b"1234")
    unread.write_bytes(b"1234")
    serving.evict(big)
    code = (
        f"import numpy; m = numpy.memmap({str(big)!r}, 'u1', 'r'); s = int(m[{3 * BLOCK} + 5]) + int(m[{6 * BLOCK}])\n"
        f"open({str(read)!r}).read()"
    )
    ranges = blocks.trace(code, mapped_only=[big])
    image = Image({"all": [big, read, unread]})
    assert image.touched(ranges) == {3, 6, 8} and unread not in ranges
    assert any(path.name.startswith("_multiarray_umath") for path in ranges), "NumPy's library"


@traced
def test_a_start_that_fails_says_so():
    with pytest.raises(RuntimeError, match="no such model"):
        blocks.trace("raise SystemExit('no such model')")


def test_requirements_and_files():
    found = blocks.requirements("functions-framework")
    assert {"functions-framework", "flask", "gunicorn", "werkzeug"} <= found and "tritonclient" not in found
    names = {path.name for path in blocks.distribution_files("safetensors")}
    assert "numpy.py" in names
    import importlib.metadata

    with pytest.raises(importlib.metadata.PackageNotFoundError):
        blocks.requirements("no-such-distribution-here")


def test_bad_blocks():
    with pytest.raises(ValueError, match="block="):
        Image({}, block=1_000)
