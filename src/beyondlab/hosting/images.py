"""Images for the runner: layers that can be unpacked whole or read a chunk at a time, in an OCI image layout on disk.

A layer is a tar archive whose pieces are gzip members of their own, one after another. Concatenated members are one valid
gzip stream (RFC 1952), so any tool can unpack it; and with an index of the pieces, one can be read without the rest. That
is the idea of eStargz (containerd/stargz-snapshotter, docs/estargz.md) and, with another index, of AWS's SOCI. Layout and
whiteouts as in the OCI image specification 1.1. Left out: links, owners, devices.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TAG = "org.opencontainers.image.ref.name"
PIECES = "beyondlab.pieces"
"""Annotation of a layer: the digest of its index of pieces."""

CHUNK = 1 << 18
"""Bytes of a file that become one gzip member."""

WHITEOUT = ".wh."


class BadImage(ValueError):
    """Bytes that are not what their digest says, or a layer that is not allowed."""


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) == ".":
        raise BadImage(f"name={name!r}: must be a relative path without '..'")
    return str(path)


def _member(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def _plain(blob: bytes) -> bytes:
    """The archive of a layer. Not gzip.decompress: of many members it copies the rest again and again."""
    with gzip.GzipFile(fileobj=io.BytesIO(blob)) as file:
        return file.read()


@dataclass(frozen=True)
class Layer:
    """``blob``: the compressed archive. ``pieces``: path -> size and [offset, length, digest of the bytes] of its chunks."""

    blob: bytes
    pieces: Mapping[str, Any]


def layer(files: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> Layer:
    """A layer of these files (path -> content); ``deleted``: paths of lower layers that it takes away (whiteouts)."""
    entries = {_checked(name): data for name, data in files.items()}
    for name in map(_checked, deleted):
        path = PurePosixPath(name)
        entries[str(path.with_name(WHITEOUT + path.name))] = b""
    blob, pieces, packed_once = io.BytesIO(), {}, {}
    for name, data in sorted(entries.items()):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        blob.write(_member(info.tobuf(tarfile.USTAR_FORMAT)))
        chunks = []
        for begin in range(0, len(data), CHUNK):
            part = data[begin : begin + CHUNK]
            name_of_part = digest(part)
            packed = packed_once.get(name_of_part) or packed_once.setdefault(name_of_part, _member(part))
            chunks.append([blob.tell(), len(packed), name_of_part])
            blob.write(packed)
        if len(data) % 512:
            blob.write(_member(bytes(-len(data) % 512)))
        pieces[name] = {"size": len(data), "chunks": chunks}
    blob.write(_member(bytes(1024)))
    return Layer(blob.getvalue(), pieces)


def unpack(blobs: Sequence[bytes], folder: Path) -> int:
    """Apply the layers, lowest first, to ``folder``; the number of files written. Whiteouts act on the layers below.

    Raises :class:`BadImage` for a name that leaves the folder and for anything but files and folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for blob in blobs:
        with tarfile.open(fileobj=io.BytesIO(_plain(blob))) as archive:
            entries = [(PurePosixPath(_checked(info.name)), info) for info in archive]
            for path, _ in entries:
                if path.name.startswith(WHITEOUT):
                    _remove(folder / path.with_name(path.name.removeprefix(WHITEOUT)))
            for path, info in entries:
                if path.name.startswith(WHITEOUT):
                    continue
                if info.isdir():
                    (folder / path).mkdir(parents=True, exist_ok=True)
                elif info.isreg():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(archive.extractfile(info).read())
                    written += 1
                else:
                    raise BadImage(f"name={info.name!r}: is neither a file nor a folder")
    return written


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _descriptor(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


class Registry:
    """Images in an OCI layout in ``folder``. What is pulled is checked against its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._tags: dict[str, dict[str, Any]] = {}
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def path(self, name: str) -> Path:
        """The file of a blob."""
        return self._blobs / name.partition(":")[2]

    def _store(self, data: bytes) -> bytes:
        self.path(digest(data)).write_bytes(data)
        return data

    def push(self, name: str, layers: Sequence[Layer]) -> int:
        """Store an image under ``name``; the bytes that a pull of its layers moves."""
        if not layers:
            raise ValueError("layers=(): an image needs at least one")
        described = []
        for each in layers:
            pieces = digest(self._store(_json(each.pieces)))
            described.append(_descriptor(LAYER, self._store(each.blob), annotations={PIECES: pieces}))
        config = self._store(_json({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [
            digest(_plain(each.blob)) for each in layers]}}))  # fmt: skip
        manifest = self._store(_json({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": _descriptor(CONFIG, config), "layers": described,
        }))  # fmt: skip
        self._tags[name] = _descriptor(MANIFEST, manifest, annotations={TAG: name})
        (self.folder / "index.json").write_bytes(
            _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(self._tags.values())})
        )
        return sum(len(each.blob) for each in layers)

    def _read(self, name: str) -> bytes:
        data = self.path(name).read_bytes()
        if digest(data) != name:
            raise BadImage(f"{name}: its bytes have the digest {digest(data)}")
        return data

    def layers(self, name: str) -> list[dict[str, Any]]:
        """The descriptors of an image's layers. Raises LookupError for an image that was never pushed."""
        if name not in self._tags:
            raise LookupError(f"image={name!r}: is not in the registry; there are {', '.join(self._tags) or 'none'}")
        return json.loads(self._read(self._tags[name]["digest"]))["layers"]

    def pull(self, name: str, folder: Path) -> int:
        """Unpack an image whole; bytes read."""
        blobs = [self._read(each["digest"]) for each in self.layers(name)]
        unpack(blobs, folder)
        return sum(map(len, blobs))

    def mount(self, name: str, folder: Path, *, eager: int = 1 << 16) -> int:
        """Make an image usable without unpacking it: files up to ``eager`` bytes are written, for the others an index.

        The index, ``.lazy.json``, says for each large file where in which blob its chunks are. Upper layers win; whiteouts
        are not supported here and raise :class:`BadImage`. Bytes read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        large, moved = {}, 0
        for each in self.layers(name):
            pieces = json.loads(self._read(each["annotations"][PIECES]))
            for path, entry in pieces.items():
                if PurePosixPath(_checked(path)).name.startswith(WHITEOUT):
                    raise BadImage(f"name={path!r}: whiteouts cannot be mounted lazily")
                large.pop(path, None)
                (folder / path).unlink(missing_ok=True)
                if entry["size"] > eager:
                    large[path] = {"blob": str(self.path(each["digest"])), **entry}
                    continue
                data = b"".join(read_chunk(self.path(each["digest"]), *chunk) for chunk in entry["chunks"])
                moved += sum(length for _, length, _ in entry["chunks"])
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        (folder / ".lazy.json").write_bytes(_json(large))
        return moved


def read_chunk(blob: Path, offset: int, length: int, name: str) -> bytes:
    """One chunk of a layer, checked against its digest. Raises :class:`BadImage`."""
    with open(blob, "rb") as file:
        file.seek(offset)
        data = gzip.decompress(file.read(length))
    if digest(data) != name:
        raise BadImage(f"{name}: the chunk at {offset} has other bytes")
    return data
