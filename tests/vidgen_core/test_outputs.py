"""Where results may be written is seen before there are any."""

import os
from pathlib import Path

import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.outputs import check_new_folder, check_out


def closed(monkeypatch, folder):
    """Make a folder one that may not be written, also for root."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: str(place) != str(folder) and real(place, mode))


def test_a_file_is_taken_only_where_it_can_be_written(tmp_path, monkeypatch):
    check_out(tmp_path / "a.MP4", (".mp4",), "A video")
    (tmp_path / "folder.mp4").mkdir()
    for wrong in ("a.gif", "folder.mp4", "nowhere/a.mp4"):
        with pytest.raises(VidgenError, match=r"A video cannot be written there.*\.mp4"):
            check_out(tmp_path / wrong, (".mp4",), "A video")
    closed(monkeypatch, tmp_path)
    with pytest.raises(VidgenError, match="cannot be written there"):
        check_out(tmp_path / "a.mp4", (".mp4",), "A video")


def test_a_new_folder_never_takes_the_place_of_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_new_folder(tmp_path / "new")
    (tmp_path / "link").symlink_to("nothing")
    for wrong in (".", "..", "link", "nowhere/new"):
        with pytest.raises(VidgenError, match="new folder"):
            check_new_folder(Path(wrong))
    closed(monkeypatch, tmp_path)
    with pytest.raises(VidgenError, match="new folder"):
        check_new_folder(tmp_path / "new")
