"""The directory of a run: whose it is, its checkpoints and its log."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import UnsafeError, UsageError, WssegError  # noqa: E402
from wsseg.train.run_folder import BEFORE, LAST, LOG, MODEL, SETTINGS, RunFolder  # noqa: E402

SETTING = {"lr": .1, "net": {"head": "aspp"}, "classes": ["a", "b"], "crop": (3, 4)}


def state(step: int) -> dict:
    return {"net": {"w": torch.arange(50.) * step}, "optimizer": {}, "l2sp": [], "best": []}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    made = RunFolder(str(tmp_path / "run"), SETTING)
    for step in (5, 10, 15):
        made.save(step, state(step))
    return made


def again(folder: RunFolder, mode="resume", **other) -> RunFolder:
    folder.close()
    return RunFolder(str(folder.path), {**SETTING, **other}, mode)


# -- whose it is -------------------------------------------------------------------------------


def test_a_place_that_is_in_use_is_left_alone(tmp_path, folder):
    with pytest.raises(UsageError, match="exists: add --resume to go on, or --overwrite"):
        RunFolder(str(folder.path), SETTING)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="exists and is no directory"):
        RunFolder(str(tmp_path / "file"), SETTING, "overwrite")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    for mode in ("new", "overwrite", "resume"):
        with pytest.raises(UsageError, match="holds thesis.tex, which is no part of a training"):
            RunFolder(str(tmp_path / "home"), SETTING, mode)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(UnsafeError, match="symbolic link"):
        RunFolder(str(tmp_path / "link"), SETTING, "overwrite")
    with pytest.raises(UsageError, match="a run is a directory"):
        RunFolder("-", SETTING)
    assert os.listdir(tmp_path / "home") == ["thesis.tex"]


def test_an_empty_directory_will_do(tmp_path):
    (tmp_path / "run").mkdir()
    assert not RunFolder(str(tmp_path / "run"), SETTING).finished


def test_two_writers_are_refused(folder):
    for mode in ("resume", "overwrite"):
        with pytest.raises(WssegError, match="is being written by another process"):
            RunFolder(str(folder.path), SETTING, mode)
    assert (folder.path / LAST).exists()
    RunFolder.look(str(folder.path)).load()  # but the other processes of a run may read


def test_overwriting_removes_the_run(folder):
    again(folder, "overwrite", lr=.2)
    assert os.listdir(folder.path) == [SETTINGS]
    assert json.loads((folder.path / SETTINGS).read_text())["lr"] == .2


def test_overwriting_that_is_killed_never_leaves_checkpoints_without_their_settings(
        folder, monkeypatch):
    removed = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: removed.append(path.name))
    again(folder, "overwrite", lr=.2)
    assert LAST in removed and removed[-1] == SETTINGS


def test_a_run_is_resumed_with_its_own_settings(folder):
    with pytest.raises(UsageError, match=r"other settings \(lr was 0.1, is 0.2\)"):
        again(folder, lr=.2)


def test_settings_that_differ_in_number_are_named(folder):
    with pytest.raises(UsageError, match=r"extra was null, is 1; lr was 0.1, is 0.3"):
        again(folder, lr=.3, extra=1)


def test_damaged_settings_are_one_clear_line(folder):
    (folder.path / SETTINGS).write_text("{")
    with pytest.raises(WssegError, match="settings.json is damaged"):
        again(folder)


def test_what_a_killed_writer_left_does_not_stand_in_the_way(folder):
    """A kill in the middle of a checkpoint leaves its temporary."""
    (folder.path / ".ws-123-0a1b2c3d.tmp").write_bytes(b"half")
    assert again(folder).load()[0]["step"] == 15
    assert sorted(os.listdir(folder.path)) == sorted([LAST, BEFORE, SETTINGS])


# -- checkpoints -------------------------------------------------------------------------------


def test_the_last_two_are_kept(folder):
    assert sorted(os.listdir(folder.path)) == sorted([LAST, BEFORE, SETTINGS])
    found, note = folder.load()
    assert found["step"] == 15 and note == ""
    assert torch.equal(found["net"]["w"], state(15)["net"]["w"])
    (folder.path / LAST).unlink()  # killed between the two renamings
    assert folder.load()[0]["step"] == 10


def test_a_cut_checkpoint_is_passed_over(folder):
    whole = (folder.path / LAST).read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (folder.path / LAST).write_bytes(whole[:cut])
        found, note = RunFolder.look(str(folder.path)).load()
        assert found["step"] == 10
        assert "last.pt is damaged" in note and "going on from the one before" in note


def test_a_flipped_bit_is_found(folder):
    whole = (folder.path / LAST).read_bytes()
    wrong = 0
    for place in range(0, len(whole), 37):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        (folder.path / LAST).write_bytes(data)
        found, _ = RunFolder.look(str(folder.path)).load()
        wrong += found["step"] == 15 and not torch.equal(found["net"]["w"], state(15)["net"]["w"])
    assert wrong == 0


def test_a_damaged_one_does_not_take_the_place_of_the_good_one(folder):
    (folder.path / LAST).write_bytes(b"noise")
    assert folder.load()[0]["step"] == 10
    folder.save(20, state(20))
    (folder.path / LAST).unlink()
    assert folder.load()[0]["step"] == 10


def test_none_that_can_be_read_is_one_line(folder):
    (folder.path / LAST).write_bytes(b"noise")
    (folder.path / BEFORE).write_bytes(b"")
    with pytest.raises(WssegError, match="no checkpoint in .*run can be read: start anew"):
        folder.load()


def test_none_at_all_is_a_new_start(tmp_path):
    assert RunFolder(str(tmp_path / "run"), SETTING, "resume").load() == (None, "")


class Canary:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_strangers_checkpoint_runs_no_code(folder, tmp_path):
    for data in (pickle.dumps(Canary(tmp_path / "canary")), None):
        for name in (LAST, BEFORE):
            if data is None:
                torch.save({"step": 3, **state(3), "net": Canary(tmp_path / "canary")},
                           folder.path / name)
            else:
                (folder.path / name).write_bytes(data)
        with pytest.raises(WssegError, match="no checkpoint in"):
            folder.load()
    assert not (tmp_path / "canary").exists()


def test_a_file_of_torch_that_is_no_checkpoint_is_passed_over(folder):
    for value in ([1, 2], {"step": 3}):
        torch.save(value, folder.path / LAST)
        assert RunFolder.look(str(folder.path)).load()[0]["step"] == 10


# -- log ---------------------------------------------------------------------------------------


def test_the_log_is_taken_back_to_the_checkpoint(folder):
    for step in (5, 10, 15, 18):
        folder.log({"step": step, "loss": .5})
    with open(folder.path / LOG, "ab") as file:
        file.write(b"noise\n{}\n[1]\n" + b'{"step": 2')
    folder.rewind(15)
    lines = (folder.path / LOG).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15]
    folder.log({"step": 16, "loss": .4})
    assert json.loads((folder.path / LOG).read_text().splitlines()[-1])["step"] == 16


def test_a_model_means_that_the_run_is_finished(folder):
    assert not folder.finished
    folder.write(MODEL, b"net")
    assert folder.finished
