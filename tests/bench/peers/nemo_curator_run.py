"""NeMo Curator on a CPU: two-second clips, VP9, motion vectors, writer. Run by bench_peers in its own environment.

Its shot detector is TransNet V2, whose weights it downloads, so clips are cut every two seconds; libvpx-vp9 is the only
encoder that it brings for CPUs.
"""

import sys

import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.video.clipping.clip_extraction_stages import ClipTranscodingStage, FixedStrideExtractorStage
from nemo_curator.stages.video.filtering.motion_filter import MotionFilterStage, MotionVectorDecodeStage
from nemo_curator.stages.video.io.clip_writer import ClipWriterStage
from nemo_curator.stages.video.io.video_reader import VideoReader

if __name__ == "__main__":
    videos, out, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ray.init(address="local", num_cpus=processes, include_dashboard=False, log_to_driver=False)
    stages = [
        VideoReader(input_video_path=videos),
        FixedStrideExtractorStage(clip_len_s=2.0, clip_stride_s=2.0, min_clip_length_s=0.5, limit_clips=0),
        # By default a worker asks for six cores, and this machine has fewer.
        ClipTranscodingStage(encoder="libvpx-vp9", num_cpus_per_worker=1.0),
        MotionVectorDecodeStage(num_cpus_per_worker=1.0),
        MotionFilterStage(score_only=True),
        ClipWriterStage(
            output_path=f"{out}/clips",
            input_path=videos,
            upload_clips=True,
            dry_run=False,
            generate_embeddings=False,
            generate_previews=False,
            generate_captions=False,
        ),
    ]
    Pipeline(name="bench", stages=stages).run(RayDataExecutor())
