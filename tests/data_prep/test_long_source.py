"""An hour of 1080p in bounded memory."""

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.processes import run_watched

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
ROOT = Path(__file__).parents[2]
LIMIT_KIB = 1.5 * 2**20
PROGRAM = """
import sys
from pathlib import Path
from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables

if __name__ == "__main__":
    settings = DataSettings(select=Select(need_caption=False), source_deadline_s=3600.0)
    done = prepare(Path(sys.argv[1]), Tables(Path(sys.argv[2])), settings, PoolRunner(1))
    print({row.name: row.rows for row in done.funnel}["clips"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [60])
def test_an_hour_of_1080p_takes_less_than_a_gigabyte_and_a_half(minutes, tmp_path):
    (tmp_path / "videos").mkdir()
    scene, film = tmp_path / "scene.mp4", tmp_path / "videos" / "film.mp4"
    moving = ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=24:duration=10"]
    run(*moving, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", str(scene))
    run("-stream_loop", str(6 * minutes - 1), "-i", str(scene), "-c", "copy", str(film))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "videos"), str(tmp_path / "tables")]
    clips, *peaks_kib = run_watched(command, {"PYTHONPATH": str(ROOT)})
    assert int(clips) > 40 * minutes
    # The program, and the workers that decode, of which each holds something.
    assert all(50 * 2**10 < peak < LIMIT_KIB for peak in peaks_kib), peaks_kib


def run(*words: str) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-nostdin", "-y", *words], check=True)
