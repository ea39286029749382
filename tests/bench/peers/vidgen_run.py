"""vidgen in plain processes, beside its peers: analysis and small clips, with "encoded" also every kept shot's file."""

import sys
from pathlib import Path

from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.shot_files import Encoding, export
from data_prep.sources import identify, list_files
from data_prep.tables import Tables

# Nothing is dropped, so that the work is that of the whole videos.
OFF = ("min_motion", "min_keep_area", "min_brightness", "max_brightness", "min_distinct_share")
ALL = Select(need_caption=False, **dict.fromkeys(OFF))
RAW = DataSettings(frames=16, height=64, width=64, frame_rate="8", select=ALL)
# A shot shorter than a clip is left out: here that is less than 0.6 s, as it is for the peers.
ENCODED = RAW.model_copy(update={"frame_rate": "24"})

if __name__ == "__main__":
    videos, out, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tables, runner = Tables(out / "tables"), PoolRunner(processes)
    prepare(videos, tables, ENCODED if sys.argv[4:] else RAW, runner)
    if sys.argv[4:]:
        encoding = Encoding() if sys.argv[4] == "encoded" else Encoding(preset="veryfast", crf=22, tune="film")
        shots = out / "clips"
        shots.mkdir()
        export(tables, identify(list_files(videos), videos), shots, encoding=encoding, runner=runner)
