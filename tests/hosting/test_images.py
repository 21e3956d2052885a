from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.hosting import images
from beyondlab.hosting.images import BadImage, Registry

NAMES = st.text("abc", min_size=1, max_size=2)
FILES = st.dictionaries(NAMES, st.binary(max_size=900), max_size=4)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lazy.json"}


@settings(deadline=None)
@given(st.lists(st.tuples(FILES, st.lists(NAMES, max_size=2)), min_size=1, max_size=4))
def test_layers_act_like_dictionaries(tmp_path_factory, stack):
    folder, wanted = tmp_path_factory.mktemp("root"), {}
    blobs = []
    for files, deleted in stack:
        deleted = [name for name in deleted if name not in files]
        wanted = {name: data for name, data in wanted.items() if name not in deleted} | files
        blobs.append(images.layer(files, deleted=deleted).blob)
    images.unpack(blobs, folder)
    assert tree(folder) == wanted


def test_any_tar_reads_the_layer():
    data = bytes(range(256)) * 3000
    made = images.layer({"a/b": data, "c": b""})
    with tarfile.open(fileobj=io.BytesIO(made.blob), mode="r:gz") as archive:
        assert archive.getnames() == ["a/b", "c"] and archive.extractfile("a/b").read() == data
    assert gzip.decompress(made.blob)[-1024:] == bytes(1024)


def test_pieces_are_where_the_index_says(tmp_path):
    data = bytes(range(256)) * 3000
    made = images.layer({"model": data})
    blob = tmp_path / "blob"
    blob.write_bytes(made.blob)
    chunks = made.pieces["model"]["chunks"]
    assert len(chunks) == -(-len(data) // images.CHUNK) == 3
    assert b"".join(images.read_chunk(blob, *chunk) for chunk in chunks) == data
    with pytest.raises(BadImage, match="has other bytes"):
        images.read_chunk(blob, chunks[0][0], chunks[0][1], chunks[1][2] + "x")


def test_pull_and_mount_see_the_same(tmp_path):
    registry = Registry(tmp_path / "registry")
    large = bytes(range(256)) * 2000
    registry.push("app:1", [images.layer({"large": large, "x": b"old"}), images.layer({"app/main.py": b"new", "x": b"y"})])
    whole = registry.pull("app:1", tmp_path / "whole")
    lazy = registry.mount("app:1", tmp_path / "lazy")
    seen = tree(tmp_path / "lazy")
    index = json.loads((tmp_path / "lazy" / ".lazy.json").read_text())
    entry = index["large"]
    seen["large"] = b"".join(images.read_chunk(entry["blob"], *chunk) for chunk in entry["chunks"])
    assert tree(tmp_path / "whole") == seen == {"large": large, "app/main.py": b"new", "x": b"y"}
    assert lazy < whole / 5


def test_the_layout_is_oci(tmp_path):
    registry = Registry(tmp_path)
    registry.push("app:1", [images.layer({"a": b"b"})])
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((tmp_path / "index.json").read_text())["manifests"][0]
    manifest = json.loads(registry.path(entry["digest"]).read_text())
    assert manifest["schemaVersion"] == 2 and entry["annotations"] == {images.TAG: "app:1"}
    for described in (manifest["config"], *manifest["layers"]):
        data = registry.path(described["digest"]).read_bytes()
        assert len(data) == described["size"] and images.digest(data) == described["digest"]
    config = json.loads(registry.path(manifest["config"]["digest"]).read_text())
    layer = registry.path(manifest["layers"][0]["digest"]).read_bytes()
    assert config["rootfs"]["diff_ids"] == [images.digest(gzip.decompress(layer))]


def test_changed_bytes_are_noticed(tmp_path):
    registry = Registry(tmp_path / "r")
    registry.push("app:1", [images.layer({"a": b"b"})])
    path = registry.path(registry.layers("app:1")[0]["digest"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BadImage, match="its bytes have the digest"):
        registry.pull("app:1", tmp_path / "out")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "", "."])
def test_no_file_leaves_the_folder(tmp_path, name):
    with pytest.raises(BadImage, match="must be a relative path"):
        images.layer({name: b""})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name or "."), io.BytesIO())
    with pytest.raises(BadImage):
        images.unpack([buffer.getvalue()], tmp_path / "out")


def test_links_are_refused_and_unknown_images_named(tmp_path):
    buffer, link = io.BytesIO(), tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(link)
    with pytest.raises(BadImage, match="neither a file nor a folder"):
        images.unpack([buffer.getvalue()], tmp_path)
    with pytest.raises(LookupError, match="image='x': is not in the registry; there are none"):
        Registry(tmp_path / "r").pull("x", tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        Registry(tmp_path / "r").push("x", [])
