"""Layers, digests and layouts are what the OCI image specification says; real tools agree."""

import io
import json
import os
import shutil
import tarfile

import pytest
from beyondlab.containers import images, lab
from beyondlab.containers.images import File


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def archive(*entries: str) -> bytes:
    """A layer of empty files and folders (with a slash at the end), in this order, made without the code under test."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for entry in entries:
            info = tarfile.TarInfo(entry.rstrip("/"))
            info.type = tarfile.DIRTYPE if entry.endswith("/") else tarfile.REGTYPE
            made.addfile(info)
    return buffer.getvalue()


def test_published_digests():
    """config.md's example names the empty layer's DiffID; manifest.md gives the digest of the empty JSON object."""
    assert images.digest(images.tar({})) == "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    assert images.digest(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_layer_is_reproducible_and_compression_changes_the_digest_only():
    one = images.tar({"b": b"2", "a/x": b"1"})
    assert one == images.tar({"a/x": b"1", "b": b"2"})
    assert images.image([one], architecture="amd64").digest == images.image([one], architecture="amd64").digest
    made = images.image([one])
    assert made.diff_ids == [images.digest(one)]
    assert json.loads(made.manifest)["layers"][0]["digest"] != made.diff_ids[0]


def test_chain_ids():
    """ChainID(lowest) = DiffID; ChainID(n) = digest of "ChainID(n-1) DiffID(n)" (config.md)."""
    a, b, c = (images.digest(text) for text in (b"a", b"b", b"c"))
    ab = images.digest(f"{a} {b}".encode())
    assert images.chain_ids([a, b, c]) == [a, ab, images.digest(f"{ab} {c}".encode())]
    assert images.chain_ids([]) == []


def test_entries_come_in_order_whiteouts_first():
    layer = images.tar({"a/b": b"", "a/z/c": b"", "a/.hidden": b""}, deleted=["a/old", "a/z/gone"], emptied=["a/e"])
    assert names(layer) == ["a", "a/.wh.old", "a/.hidden", "a/b", "a/e", "a/e/.wh..wh..opq", "a/z", "a/z/.wh.gone", "a/z/c"]


def test_the_changeset_of_the_specification():
    """layer.md, "Representing Changes": the entries, and what applying them gives."""
    first = images.tar({"etc/my-app-config": b"1", "bin/my-app-binary": b"2", "bin/my-app-tools": b"3"})
    second = images.tar({"etc/my-app.d/default.cfg": b"4", "bin/my-app-tools": b"5"}, deleted=["etc/my-app-config"])
    assert {"etc/my-app.d", "etc/my-app.d/default.cfg", "bin/my-app-tools", "etc/.wh.my-app-config"} <= set(names(second))
    tree = images.apply([first, second])
    assert list(tree) == ["bin", "bin/my-app-binary", "bin/my-app-tools", "etc", "etc/my-app.d", "etc/my-app.d/default.cfg"]
    assert tree["bin/my-app-tools"].content == b"5"


@pytest.mark.parametrize("order", [
    ("a/", "a/.wh..wh..opq", "a/b/", "a/b/c/", "a/b/c/foo"),
    ("a/", "a/b/", "a/b/c/", "a/b/c/foo", "a/.wh..wh..opq"),
])  # fmt: skip
def test_an_opaque_whiteout_hides_the_layers_below_only_in_any_order(order):
    """layer.md, "Whiteouts": both archives are equivalent."""
    base = archive("a/", "a/b/", "a/b/c/", "a/b/c/bar")
    assert list(images.apply([base, archive(*order)])) == ["a", "a/b", "a/b/c", "a/b/c/foo"]


def test_opaque_and_explicit_whiteouts_agree():
    """layer.md, "Opaque Whiteout": bin/ emptied in one entry or in three."""
    base = images.tar({f"bin/{name}": b"" for name in ("my-app-binary", "my-app-tools", "tools/my-app-tool-one")})
    opaque = images.tar({}, emptied=["bin"])
    explicit = images.tar({}, deleted=["bin/my-app-binary", "bin/my-app-tools", "bin/tools"])
    assert images.apply([base, opaque]) == images.apply([base, explicit]) == {"bin": None}


def test_kinds_may_change_between_layers():
    base = images.tar({"d/x": b"1", "f": b"2", "l": File(target="f")})
    tree = images.apply([base, images.tar({"d": b"now a file", "f/y": b"now a folder", "l": b"now a file"})])
    assert (tree["d"].content, tree["f"], tree["f/y"].content, tree["l"].target) == (b"now a file", None, b"now a folder", None)
    assert "d/x" not in tree


def test_a_layer_cannot_leave_the_root():
    for evil in ("../etc/passwd", "/etc/passwd", "a/../../b"):
        with pytest.raises(ValueError, match="relative path"):
            images.tar({evil: b""})
        with pytest.raises(ValueError, match="relative path"):
            images.apply([archive(evil)])
    with pytest.raises(ValueError, match="no folder"):
        images.apply([images.tar({"link": File(target="/etc")}), images.tar({"link": File(target="/etc")}), _below_link()])
    with pytest.raises(ValueError, match="kept for whiteouts"):
        images.tar({"a/.wh.b": b""})


def _below_link() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        link = tarfile.TarInfo("link2")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        made.addfile(link)
        made.addfile(tarfile.TarInfo("link2/passwd"))
    return buffer.getvalue()


def test_a_deleted_file_still_weighs():
    secret = bytes(range(256)) * 400
    with_it = images.image([images.tar({"keep": b"x", "secret": secret}), images.tar({}, deleted=["secret"])])
    assert "secret" not in images.apply(with_it.tars)
    assert any(secret in data for data in with_it.tars)
    without = images.image([images.tar({"keep": b"x"})])
    assert with_it.size > without.size


def test_unpack_and_read_back(tmp_path):
    files = {"bin/run": File(b"#!", 0o755), "bin/link": File(target="run"), "etc/x": File(b"1")}
    images.unpack([images.tar(files)], tmp_path / "root")
    assert images.read_tree(tmp_path / "root") == dict(sorted(files.items()))
    with pytest.raises(ValueError, match="must be empty"):
        images.unpack([images.tar(files)], tmp_path / "root")
    with pytest.raises(ValueError, match="at least one layer"):
        images.image([])


def test_the_layout(tmp_path):
    one, two = images.image([images.tar({"a": b"1"})]), images.image([images.tar({"a": b"2"})])
    images.write_layout(tmp_path, {"old": one, "new": two})
    index = json.loads((tmp_path / "index.json").read_text())
    assert [m["annotations"][images.TAG] for m in index["manifests"]] == ["old", "new"]
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    for blob in (tmp_path / "blobs" / "sha256").iterdir():
        assert images.digest(blob.read_bytes()) == f"sha256:{blob.name}"
    assert len(one.blobs | two.blobs) == len(list((tmp_path / "blobs" / "sha256").iterdir()))


def test_a_root_file_system_from_this_machine(monkeypatch):
    files = images.root_files(["sh", "true", "no-such-program"])
    assert "bin/sh" in files and "bin/no-such-program" not in files
    monkeypatch.setattr(images, "_applets", lambda path: set())
    copied = images.root_files(["sh", "true"])
    assert copied["bin/sh"].mode == 0o755 and any(".so" in name for name in copied)
    with pytest.raises(LookupError, match="no shell"):
        images.root_files(["no-such-program"])


def needs(*programs):
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{', '.join(absent)} not installed")


@pytest.fixture
def two_layers():
    base = {"bin/run": File(b"#!/bin/sh\n", 0o755), "etc/conf": b"one", "var/cache/a": b"1", "var/cache/b": b"2"}
    change = images.tar({"etc/more": b"two", "var/cache/new": b"3"}, deleted=["etc/conf"], emptied=["var/cache"])
    return images.image([images.tar(base), change], command=["/bin/run", "--now"], labels={"course": "yes"})


def test_skopeo_reads_what_was_written(tmp_path, two_layers):
    needs("skopeo")
    images.write_layout(tmp_path, {"v1": two_layers})
    seen = lab.inspect_with_skopeo(tmp_path, "v1")
    assert seen["Digest"] == two_layers.digest
    assert seen["Layers"] == [images.digest(layer) for layer in two_layers.layers]
    assert seen["Os"] == "linux" and seen["Labels"] == {"course": "yes"}
    with pytest.raises(RuntimeError, match="skopeo ended"):
        lab.inspect_with_skopeo(tmp_path, "v2")


def test_umoci_unpacks_the_same_tree(tmp_path, two_layers):
    needs("umoci")
    images.write_layout(tmp_path / "layout", {"v1": two_layers})
    root = lab.unpack_with_umoci(tmp_path / "layout", "v1", tmp_path / "bundle")
    ours = {name: file for name, file in images.apply(two_layers.tars).items() if file is not None}
    assert images.read_tree(root) == ours
    assert sorted(ours) == ["bin/run", "etc/more", "var/cache/new"]
    assert json.loads((tmp_path / "bundle" / "config.json").read_text())["process"]["args"] == ["/bin/run", "--now"]
