"""OCI images from scratch: layers, digests, manifests, and a layout on disk. Standard library only, reproducible.

After the OCI image specification 1.1 (layer.md, config.md, manifest.md, image-index.md, image-layout.md of the
repository opencontainers/image-spec). Left out: hard links, devices, extended attributes, zstd.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TAG = "org.opencontainers.image.ref.name"
EPOCH = "1970-01-01T00:00:00Z"

WHITEOUT = ".wh."
"""A file of this prefix deletes the file of the rest of its name in the layers below."""

OPAQUE = ".wh..wh..opq"
"""A file of this name hides everything that the layers below have in its folder."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class File:
    """A regular file, or a symbolic link if it has a ``target``."""

    content: bytes = b""
    mode: int = 0o644
    target: str | None = None


def digest(data: bytes) -> str:
    """The name of a blob.

    >>> digest(b"{}")
    'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) in (".", ""):
        raise ValueError(f"files={name!r}: must be a relative path without '..'")
    return str(path)


def tar(files: Mapping[str, File | bytes], *, deleted: Sequence[str] = (), emptied: Sequence[str] = ()) -> bytes:
    """A layer as an uncompressed tar archive: the same input gives the same bytes.

    ``files``: path -> content. ``deleted``: paths of lower layers that this layer deletes (whiteouts). ``emptied``:
    folders of which nothing of the lower layers stays (opaque whiteouts). Folders are entered before what is in them,
    whiteouts before their siblings; owner 0, time 0. Raises ValueError for a path that leaves the root, or a file whose
    name says that it is a whiteout.
    """
    entries = {_checked(name): file if isinstance(file, File) else File(file) for name, file in files.items()}
    for name in entries:
        if PurePosixPath(name).name.startswith(WHITEOUT):
            raise ValueError(f"files={name!r}: a name that begins with {WHITEOUT} is kept for whiteouts")
    for name in map(_checked, deleted):
        path = PurePosixPath(name)
        entries[str(path.with_name(WHITEOUT + path.name))] = File()
    for name in map(_checked, emptied):
        entries[f"{name}/{OPAQUE}"] = File()
    folders = {str(parent) for name in entries for parent in PurePosixPath(name).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(folders | entries.keys(), key=_order):
            info = tarfile.TarInfo(name)
            file = entries.get(name)
            if file is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif file.target is not None:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, file.target, 0o777
            else:
                info.size, info.mode = len(file.content), file.mode
            archive.addfile(info, io.BytesIO(file.content) if info.isreg() else None)
    return _trimmed(buffer.getvalue())


def _order(name: str) -> tuple[tuple[bool, str], ...]:
    return tuple((not part.startswith(WHITEOUT), part) for part in PurePosixPath(name).parts)


def _trimmed(archive: bytes) -> bytes:
    """Without the padding to 10 KiB that Python adds: an archive ends with two blocks of 512 zero bytes."""
    length = len(archive.rstrip(b"\0"))
    return archive[: -(-length // 512) * 512] + bytes(1024)


def compressed(data: bytes) -> bytes:
    """gzip without a time in its header."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """What names each stack of layers, from the lowest up (config.md, Layer ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    """What points to a blob: media type, digest, size in bytes."""
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


@dataclass(frozen=True)
class Image:
    """A manifest and the blobs it needs. Made by :func:`image`."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]
    tars: tuple[bytes, ...] = field(repr=False, default=())

    @property
    def digest(self) -> str:
        """The digest of the manifest: what a pull by digest asks for."""
        return digest(self.manifest)

    @property
    def image_id(self) -> str:
        """The digest of the configuration."""
        return digest(self.config)

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the layers before compression."""
        return [digest(data) for data in self.tars]

    @property
    def size(self) -> int:
        """Bytes that a pull moves: manifest, configuration, compressed layers."""
        return len(self.manifest) + len(self.config) + sum(map(len, self.layers))

    @property
    def blobs(self) -> dict[str, bytes]:
        return {digest(data): data for data in (self.manifest, self.config, *self.layers)}


def image(
    tars: Sequence[bytes],
    *,
    command: Sequence[str] = ("/bin/sh",),
    environment: Sequence[str] = ("PATH=/bin",),
    labels: Mapping[str, str] | None = None,
    architecture: str | None = None,
) -> Image:
    """An image of these uncompressed layers, lowest first.

    ``architecture`` as OCI writes it (``amd64``); this machine's by default. Raises ValueError for no layer at all.
    """
    if not tars:
        raise ValueError("tars=(): an image needs at least one layer")
    machine = os.uname().machine if hasattr(os, "uname") else "x86_64"
    settings: dict[str, Any] = {"Cmd": list(command), "Env": list(environment), "WorkingDir": "/"}
    if labels:
        settings["Labels"] = dict(labels)
    config = _json({
        "created": EPOCH,
        "architecture": architecture or ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in tars]},
        "history": [{"created": EPOCH, "created_by": f"layer {number}"} for number, _ in enumerate(tars)],
    })  # fmt: skip
    layers = tuple(map(compressed, tars))
    manifest = _json({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, data) for data in layers],
    })  # fmt: skip
    return Image(manifest, config, layers, tuple(tars))


def write_layout(folder: Path, tags: Mapping[str, Image]) -> None:
    """An OCI image layout in ``folder``: ``oci-layout``, ``index.json`` with a tag for each image, and the blobs."""
    store = folder / "blobs" / "sha256"
    store.mkdir(parents=True, exist_ok=True)
    for made in tags.values():
        for name, data in made.blobs.items():
            (store / name.partition(":")[2]).write_bytes(data)
    manifests = [descriptor(MANIFEST, made.manifest) | {"annotations": {TAG: tag}} for tag, made in tags.items()]
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def apply(tars: Sequence[bytes]) -> dict[str, File | None]:
    """The file system that a stack of layers gives: path -> file, or None for a folder.

    Whiteouts act on the layers below only, wherever in the archive they stand (layer.md, Whiteouts).
    """
    tree: dict[str, File | None] = {}
    for data in tars:
        added: dict[str, File | None] = {}
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                if info.name in (".", "./"):
                    continue
                path = PurePosixPath(_checked(info.name.removeprefix("./")))
                if path.name == OPAQUE:
                    _remove(tree, str(path.parent), itself=False)
                elif path.name.startswith(WHITEOUT):
                    _remove(tree, str(path.with_name(path.name.removeprefix(WHITEOUT))), itself=True)
                elif info.isdir():
                    added[str(path)] = None
                elif info.issym():
                    added[str(path)] = File(target=info.linkname)
                elif info.isreg():
                    added[str(path)] = File(archive.extractfile(info).read(), info.mode)
                else:
                    raise ValueError(f"tars: {info.name!r} is neither a file, nor a folder, nor a symbolic link")
        for name, file in added.items():
            if file is not None:
                _remove(tree, name, itself=True)
            elif name in tree and tree[name] is not None:
                del tree[name]
            for parent in PurePosixPath(name).parents:
                if str(parent) != "." and tree.setdefault(str(parent), None) is not None:
                    raise ValueError(f"tars: {name!r} lies below {str(parent)!r}, which is no folder")
            tree[name] = file
    return dict(sorted(tree.items()))


def _remove(tree: dict[str, File | None], name: str, *, itself: bool) -> None:
    below = "" if name == "." else f"{name}/"
    for path in [path for path in tree if path.startswith(below) or (itself and path == name)]:
        del tree[path]


def unpack(tars: Sequence[bytes], folder: Path) -> None:
    """Write what :func:`apply` gives to ``folder``, which must be empty. Raises ValueError if it is not."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"folder={str(folder)!r}: must be empty")
    for name, file in apply(tars).items():
        path = folder / name
        if file is None:
            path.mkdir(parents=True, exist_ok=True)
        elif file.target is not None:
            path.symlink_to(file.target)
        else:
            path.write_bytes(file.content)
            path.chmod(file.mode)


def read_tree(folder: Path) -> dict[str, File]:
    """The files and symbolic links under ``folder``, as :func:`tar` takes them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = File(target=os.readlink(path))
        elif path.is_file():
            found[name] = File(path.read_bytes(), path.stat().st_mode & 0o777)
    return found


APPLETS = ("sh", "cat", "echo", "free", "hostname", "id", "ls", "mount", "ps", "sleep", "true")
"""The programs of a root file system that :func:`root_files` builds."""


def root_files(programs: Sequence[str] = APPLETS) -> dict[str, File]:
    """A small root file system from what is on this machine: a static busybox, or programs and their libraries.

    Programs that this machine lacks are left out. Raises LookupError if there is not even a shell.
    """
    files = {"etc/hostname": File(b"lab\n"), "etc/passwd": File(b"root:x:0:0:root:/:/bin/sh\n")}
    busybox = shutil.which("busybox")
    if busybox and (offered := _applets(busybox)):
        files["bin/busybox"] = File(Path(busybox).read_bytes(), 0o755)
        files |= {f"bin/{name}": File(target="busybox") for name in programs if name in offered}
        needed = [busybox]
    else:
        needed = [path for path in map(shutil.which, programs) if path]
        files |= {f"bin/{Path(path).name}": File(Path(path).read_bytes(), 0o755) for path in needed}
    if "bin/sh" not in files:
        raise LookupError("this machine has no shell to put into a root file system")
    for library in sorted({library for path in needed for library in _libraries(path)}):
        files[library.lstrip("/")] = File(Path(library).read_bytes(), 0o755)
    return files


def _output(*argv: str) -> str:
    import subprocess

    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _applets(busybox: str) -> set[str]:
    return set(_output(busybox, "--list").split())


def _libraries(program: str) -> list[str]:
    """The shared libraries and the loader that ``ldd`` names; none for a static program."""
    return [word for word in _output("ldd", program).split() if word.startswith("/") and os.path.isfile(word)]
