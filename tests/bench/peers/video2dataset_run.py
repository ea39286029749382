"""video2dataset: cut detection, then clips encoded anew at the cuts. Run by bench_peers in an environment of its own.

It has no motion score but RAFT's, which needs weights. `precision: exact` is the only setting that cuts where the cuts
are without losing clips. Of files with more streams than pictures and sound it makes nothing.
"""

import csv
import sys
from pathlib import Path

import yaml
from video2dataset import video2dataset

if __name__ == "__main__":
    videos, out, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    files = sorted(str(file) for file in videos.glob("*.mp4"))
    listed, settings = out / "videos.csv", out / "settings.yaml"
    with listed.open("w", newline="") as stream:
        csv.writer(stream).writerows([["url"], *([file] for file in files)])
    detection = {"cut_detection_mode": "all", "framerates": None, "threshold": 27, "min_scene_len": 15}
    clipping = {"min_length": 0.5, "max_length": 999999.0, "max_length_strategy": "all", "precision": "exact"}
    settings.write_text(
        yaml.safe_dump(
            {
                "subsampling": {
                    "CutDetectionSubsampler": {"cuts_are_clips": True, "args": detection},
                    "ClippingSubsampler": {"args": clipping},
                },
                "reading": {
                    "yt_args": {"download_size": 360, "download_audio_rate": 44100, "yt_metadata_args": None},
                    "timeout": 60,
                    "sampler": None,
                },
                # A shard is a task: each process gets one or two.
                "storage": {
                    "number_sample_per_shard": max(1, len(files) // (2 * processes)),
                    "oom_shard_count": 5,
                    "captions_are_subtitles": False,
                },
                "distribution": {
                    "processes_count": processes,
                    "thread_count": 1,
                    "subjob_size": 1000,
                    "distributor": "multiprocessing",
                },
            }
        )
    )
    video2dataset(
        url_list=str(listed),
        output_folder=str(out / "shards"),
        output_format="webdataset",
        input_format="csv",
        url_col="url",
        encode_formats={"video": "mp4"},
        stage="download",
        config=str(settings),
        tmp_dir=str(out),
    )
