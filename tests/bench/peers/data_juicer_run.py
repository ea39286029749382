"""data-juicer: three filters on metadata, split by scenes, motion score. Run by bench_peers in its own environment."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

if __name__ == "__main__":
    videos, out, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    samples = [{"videos": [str(file)], "text": "<__dj__video>"} for file in sorted(videos.glob("*.mp4"))]
    listed, recipe = out / "videos.jsonl", out / "recipe.yaml"
    listed.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    # Defaults but for ranges that let everything pass.
    operators = [
        {"video_duration_filter": {"min_duration": 0, "max_duration": 10_000}},
        {"video_aspect_ratio_filter": {"min_ratio": "9/21", "max_ratio": "21/9"}},
        {"video_resolution_filter": {"min_width": 16, "max_width": 8192, "min_height": 16, "max_height": 8192}},
        {"video_split_by_scene_mapper": {"save_dir": str(out / "clips")}},
        {"video_motion_score_filter": {"min_score": 0.0}},
    ]
    recipe.write_text(
        yaml.safe_dump(
            {
                "project_name": "bench",
                "dataset_path": str(listed),
                "export_path": str(out / "kept.jsonl"),
                "work_dir": str(out / "work"),
                "np": processes,
                "use_cache": False,
                "process": operators,
            }
        )
    )
    program = Path(sys.executable).with_name("dj-process")
    sys.exit(subprocess.run([str(program), "--config", str(recipe)], check=False).returncode)
