"""Where a lab cannot run, the notebook runs on its recordings, and says so."""

import harness
import pytest


def test_on_recordings_alone(path, tmp_path):
    stored, executed = harness.read(path), harness.read(path)
    if not harness.starts_a_lab(stored):
        pytest.skip("no cell of this notebook is tagged lab")
    harness.run(executed, folder=harness.copy_of_folder(path, tmp_path / "copy"), BEYONDLAB_LABS="recorded")
    harness.assert_same_outputs(stored, executed, "on recordings")
    assert "RECORDED on " in harness.visible_text(executed)
