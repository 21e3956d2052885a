"""Lazy image loading: which blocks of an image does a start really touch, and which does it share with another image?

AWS Lambda flattens a container image into a file system, cuts that into blocks of 512 KiB, names each by its hash and
loads it when it is first read (M. Brooker et al., "On-demand Container Loading in AWS Lambda", USENIX ATC 2023). Here
an image is the files of installed packages and of weights, in layers; each file begins on a page, each layer on a
block, and the order is that of the names: the layout must be deterministic, or equal files make different blocks.

What a start touches is seen from inside, without privileges: ``/proc/self/pagemap`` tells which pages of each mapped
file this process has touched (:func:`mapped_pages`), an audit hook which files Python opened to read. ``mincore``
would tell what is in the page cache on anybody's behalf, and since Linux 5.2 not even that of files that one does not
own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import mmap
import os
import re
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512 * 1024
"""Bytes in a block, as on AWS Lambda."""
PAGE = 4_096
Ranges = Mapping[Path, Sequence[tuple[int, int]]]
"""File to the byte ranges, (begin, end), that were touched in it."""


@dataclass(frozen=True)
class Placed:
    """A file of an image: where it begins in the flat image, and its size, in bytes."""

    path: Path
    offset: int
    size: int


class Image:
    """Layers of files, flattened. ``layers``: name to files; a layer's files are laid out by name."""

    def __init__(self, layers: Mapping[str, Iterable[Path]], *, block: int = BLOCK) -> None:
        if block <= 0 or block % PAGE:
            raise ValueError(f"block={block!r}: must be a positive multiple of {PAGE} bytes")
        self.block = block
        self.files: list[Placed] = []
        self.layers: dict[str, tuple[int, int]] = {}
        """Layer to its first block and the one after its last."""
        offset = 0
        for name, paths in layers.items():
            first = offset = -(-offset // block) * block
            for path in sorted(set(paths)):
                size = path.stat().st_size
                self.files.append(Placed(path, offset, size))
                offset += -(-size // PAGE) * PAGE
            self.layers[name] = (first // block, -(-offset // block))
        self.bytes = sum(file.size for file in self.files)
        self.blocks = -(-offset // block)

    def hashes(self) -> list[str]:
        """SHA-256 of each block, gaps filled with zeros. Reads every file once."""
        digests, digest, position = [], hashlib.sha256(), 0

        def feed(data: bytes | memoryview) -> None:
            nonlocal digest, position
            view = memoryview(data)
            while view:
                part = view[: self.block - position % self.block]
                digest.update(part)
                position += len(part)
                view = view[len(part) :]
                if position % self.block == 0:
                    digests.append(digest.hexdigest())
                    digest = hashlib.sha256()

        for file in self.files:
            feed(bytes(file.offset - position))
            end = file.offset + file.size
            with file.path.open("rb") as source:
                while position < end and (data := source.read(min(self.block, end - position))):
                    feed(data)
        if position % self.block:
            feed(bytes(self.block - position % self.block))
        return digests

    def touched(self, ranges: Ranges) -> set[int]:
        """Numbers of the blocks in which a byte of ``ranges`` lies; files that are not of the image are left out."""
        found: set[int] = set()
        for file in self.files:
            for begin, end in ranges.get(file.path, ()):
                begin, end = max(0, begin), min(end, file.size)
                if begin < end:
                    found.update(range((file.offset + begin) // self.block, (file.offset + end - 1) // self.block + 1))
        return found


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the blocks of ``one`` whose content is in ``other`` too."""
    there = set(other)
    return sum(digest in there for digest in one) / len(one) if one else float("nan")


def distribution_files(*names: str) -> list[Path]:
    """The files of installed distributions and of all that they require, resolved, byte code included.

    Files outside of the site folder, such as scripts, are left out.
    Raises ``importlib.metadata.PackageNotFoundError`` for a name that is not installed.
    """
    found: set[Path] = set()
    for name in sorted(requirements(*names)):
        distribution = importlib.metadata.distribution(name)
        root = Path(os.path.realpath(str(distribution.locate_file(""))))
        for file in distribution.files or ():
            path = root / file
            if ".." not in file.parts and path.is_file():
                found.add(path)
            if path.suffix == ".py":
                compiled = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
                if compiled.is_file():
                    found.add(compiled)
    return sorted(found)


def requirements(*names: str) -> set[str]:
    """Names of the installed distributions that these need here, themselves included, extras left out."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = [(name, True) for name in names]
    while todo:
        name, must = todo.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if must:
                raise
            continue
        found.add(name)
        for text in distribution.requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append((need.name, False))
    return found


# What a start touches


def mapped_pages(maps: str, present: Mapping[int, bytes] | None = None) -> dict[str, list[tuple[int, int]]]:
    """Byte ranges of mapped files whose pages are in this process's page table.

    ``maps`` is the text of ``/proc/self/maps``; ``present`` (for tests) maps the beginning of a mapping to its entries
    of ``/proc/self/pagemap``, 8 bytes a page, of which bit 63 says "present" (kernel documentation, "Examining Process
    Page Tables"). The kernel maps cached pages around a fault too: 64 KiB, or all of a large folio, up to 2 MiB. So
    a file that was evicted from the page cache shows more exactly what was touched.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    source = None if present is not None else open("/proc/self/pagemap", "rb")
    try:
        for line in maps.splitlines():
            parts = line.split(maxsplit=5)
            if len(parts) < 6 or not parts[5].startswith("/"):
                continue
            begin, end = (int(text, 16) for text in parts[0].split("-"))
            pages = (end - begin) // mmap.PAGESIZE
            if source is None:
                entries = present.get(begin, b"")
            else:
                source.seek(begin // mmap.PAGESIZE * 8)
                entries = source.read(pages * 8)
            offset = int(parts[2], 16)
            here = [entry >> 63 for (entry,) in struct.iter_unpack("<Q", entries[: len(entries) // 8 * 8])]
            ranges = found.setdefault(parts[5], [])
            for number, there in enumerate(here):
                if there:
                    at = offset + number * mmap.PAGESIZE
                    if ranges and ranges[-1][1] == at:
                        ranges[-1] = (ranges[-1][0], at + mmap.PAGESIZE)
                    else:
                        ranges.append((at, at + mmap.PAGESIZE))
    finally:
        if source is not None:
            source.close()
    return {path: ranges for path, ranges in found.items() if ranges}


_TRACE = """\
import sys
opened = set()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode())
sys.addaudithook(hook)
names = {"__name__": "start"}
exec(compile(sys.argv[1], "start", "exec"), names)
import json
from beyondlab.inference.blocks import mapped_pages
with open("/proc/self/maps") as maps:
    text = maps.read()
print(json.dumps({"opened": sorted(opened), "mapped": mapped_pages(text)}))
"""


def trace(code: str, *, timeout: float = 60.0, mapped_only: Iterable[Path] = ()) -> Ranges:
    """Run ``code`` in a fresh interpreter; which bytes of which files it touched.

    A file that Python opened counts as read whole, unless it is mapped, or one of ``mapped_only``, of which only the
    pages count. Raises RuntimeError with the last lines if the code fails.
    """
    from beyondlab.kit import processes

    env = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with processes.Process([sys.executable, "-c", _TRACE, code], name="traced start", env=env) as process:
        status = process.wait(timeout)
        output = process.output(5)
    if status:
        raise RuntimeError(f"the traced start ended with status {status}:\n{output}")
    document = json.loads(output.splitlines()[-1])
    found: dict[Path, list[tuple[int, int]]] = {}
    for path, ranges in document["mapped"].items():
        found[Path(path).resolve()] = [tuple(pair) for pair in ranges]
    only = {Path(path).resolve() for path in mapped_only}
    for name in document["opened"]:
        path = Path(name).resolve()
        if path not in found and path not in only and path.is_file():
            found[path] = [(0, path.stat().st_size)]
    return found


def missing() -> str | None:
    """Why a start cannot be traced here; None if it can."""
    if not os.path.exists("/proc/self/pagemap"):
        return "there is no /proc/self/pagemap here"
    try:
        with open("/proc/self/maps") as maps:
            found = mapped_pages(maps.read())
    except OSError as error:
        return f"/proc/self/pagemap cannot be read: {error}"
    return None if found else "/proc/self/pagemap shows no page of any file"


def bytecode_missing() -> bool:
    """Whether packages were installed without byte code, which makes every import many times slower."""
    import numpy

    compiled = Path(numpy.__file__).parent / "__pycache__"
    return not any(compiled.glob(f"*.{sys.implementation.cache_tag}.pyc"))
