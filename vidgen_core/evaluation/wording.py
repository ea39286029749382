"""What the page says about each number it may be given, in a sentence; a name that is not here stands for itself."""

__all__ = ["ASPECTS", "DISTANCES", "FUNNEL", "HELD_OUT", "REASONS", "SCORES", "named"]

# What a distance is, by the part of its name before the "@": a title, and what it measures.
DISTANCES = {
    "rfd": (
        "Frechet distance, random features",
        "How far apart the average and the spread of generated and real clips are, seen by a fixed network of random "
        "convolutions. It is not FVD, and compares only with itself under the same protocol.",
    ),
    "rmmd": (
        "Squared MMD, random features",
        "Whether the same random features tell generated from real clips by more than average and spread. The estimate "
        "is unbiased, so it can fall below zero where there is no difference.",
    ),
    "fvd": ("FVD", "Frechet distance of I3D's Kinetics-400 logits, in the setting that its name tells."),
    "fvd2048_16f": ("FVD, as StyleGAN-V defines it", "2,048 clips of 16 frames on each side, training split, I3D."),
    "kvd": ("KVD", "Unbiased squared MMD of I3D's Kinetics-400 logits."),
    "frechet": ("Frechet distance", "How far apart average and spread are in the space that its name tells."),
    "mmd": ("Squared MMD", "Unbiased, in the space that its name tells."),
    "inception_score": ("Inception score", "Clear classes, and many of them. It never looks at a real clip."),
    "precision": ("Precision", "Share of generated clips that lie among the real ones."),
    "recall": ("Recall", "Share of real clips that lie among the generated ones."),
    "density": ("Density", "How deep generated clips lie among the real ones; 1 for real clips, and it may be more."),
    "coverage": ("Coverage", "Share of real clips that have a generated clip near."),
    "diversity": ("Diversity", "How far generated clips are from each other, over the same of real ones."),
    "nearest_ratio": (
        "Nearest training clip",
        "How far generated clips are from the nearest training clip, over the same of held-out clips; toward 0 for "
        "copies.",
    ),
    "clip_score": ("CLIP score", "Mean cosine of frames and prompt, neither scaled nor cut off."),
    "text_match_score": ("Caption match", "By a trained encoder of captions and clips; log odds of a match."),
    "frame_consistency": ("Frames alike", "Cosines of each frame with the one before and the first. Blind to motion."),
    "subject_consistency": ("Subject consistency", "VBench's: cosines of DINO's features with the frames before."),
    "background_consistency": (
        "Background consistency",
        "VBench's: cosines of CLIP's features with the frames before.",
    ),
    "drift": ("Drift", "How far the end of a long clip is from its beginning."),
    "covered_share": ("What vanishes", "Share of pixels that the next frame does not show again, in clips that move."),
    "dynamic_degree": ("Dynamic degree", "Share of clips that move, by VBench's rule with another optical flow."),
    "flicker": ("Flicker", "Change of brightness where nothing moves, in gray levels; of clips that move."),
    "motion_energy": ("Motion energy", "Mean squared change from frame to frame, in squared gray levels."),
    "temporal_flickering": ("Temporal flickering", "VBench's: 1 for a clip that stands still."),
    "warping_error": ("Warping error", "What optical flow does not explain, in gray levels; of clips that move."),
    "motion_energy_distance": (
        "Distance of motion",
        "Between the distributions of how much clips change, gray levels.",
    ),
    "temporal_spectrum_distance": ("Distance of rhythm", "Between the distributions of power over time, in decibels."),
}
ASPECTS = {
    "one_shape": ("One shape", "There is exactly one colored spot, and it is a shape of the sample world."),
    "color": ("Color", "It has the color that the prompt names."),
    "shape": ("Shape", "It is the circle, square or triangle that the prompt names."),
    "direction": ("Direction", "It goes where the prompt says; over prompts in which something moves."),
    "straight": ("Straight line", "It moves evenly and on a straight line; over prompts in which something moves."),
}
# What a held-out figure is and where better lies, by name.
HELD_OUT = {
    "loss": ("Held-out loss", "The training's held-out objective; lower is better."),
    "psnr_db": (
        "Reconstruction, dB",
        "Peak signal-to-noise ratio of decoded against original clips; higher is better.",
    ),
}
FUNNEL = {
    "files": ("Files", "found in the folder"),
    "sources committed": ("Sources kept", "files that decode to pictures"),
    "sources rejected": ("Sources rejected", "files that do not, or that are copies"),
    "spans": ("Candidate clips", "stretches of one shot, as long as a clip"),
    "duplicate groups": ("Groups of copies", "files that show the same footage; the best is kept"),
    "captioned spans": ("Captioned", "candidates that the captioner described"),
    "spans dropped": ("Candidates dropped", "stopped by a rule"),
    "clips": ("Clips", "kept, cut and stored"),
}
REASONS = {
    "crashed": "The process that worked on it died or took too long.",
    "cut_failed": "The process that cut its source died or took too long.",
    "duplicate": "The same bytes as another file.",
    "empty_file": "The file has no bytes.",
    "forgotten": "It was taken down.",
    "max_aspect": "Its video is too wide for its height.",
    "max_brightness": "Too bright on average.",
    "min_aspect": "Its video is too high for its width.",
    "min_bits_per_pixel": "Its file spends too few bits on a pixel.",
    "min_brightness": "Too dark on average.",
    "min_distinct_share": "Too few of its frames differ: it stands still, or its rate is too low.",
    "min_keep_area": "Too little picture is left between the black bars.",
    "min_motion": "Too little changes from frame to frame.",
    "min_sharpness": "Too little fine detail.",
    "min_source_fps": "Its video has too few frames a second.",
    "min_source_s": "Its video is too short.",
    "max_blockiness": "Its blocks show.",
    "max_camera_px_s": "The camera moves too fast.",
    "max_detected_text_area": "Too much of it is text, by the detector.",
    "max_faces": "Too many faces.",
    "max_flow_px_s": "Too much moves.",
    "max_niqe": "It looks unnatural by NIQE.",
    "max_noise": "Too much noise.",
    "max_nsfw": "It is likely not safe for work.",
    "max_text_area": "Too much of it is text that stays.",
    "max_watermark": "It likely bears a watermark.",
    "min_aesthetic": "The aesthetic score is too low.",
    "min_flow_px_s": "Too little moves.",
    "min_object_px_s": "Nothing but the camera moves.",
    "min_text_video_match": "The caption does not fit.",
    "near_duplicate": "The same footage is kept from another file.",
    "semantic_duplicate": "A clip that looks alike is kept from another file.",
    "licenses": "Its source has another license than those that the recipe asks for, or none that is known.",
    "need_caption": "It has no caption, and the recipe asks for one.",
    "no_decoder": "There is no decoder for its video stream.",
    "no_picture": "The file has no video stream.",
    "no_picture_decoded": "Its video stream decodes to no picture.",
    "not_a_video": "No decoder recognizes the file.",
}
# What a score is: a title, and what it measures in which unit.
SCORES = {
    "aspect": ("Aspect", "Width over height of the video as it is shown."),
    "bits_per_pixel": ("Bits per pixel", "Bits of the file for each pixel of each frame."),
    "brightness": ("Brightness", "Mean luma, 0 to 255."),
    "distinct_share": ("Distinct frames", "Share of the clip's frames that are different frames of the video."),
    "keep_area": ("Kept area", "Share of the picture that is left without black bars."),
    "motion": ("Motion", "Mean change of luma from frame to frame, in gray levels."),
    "sharpness": ("Sharpness", "0 for a blurred or enlarged picture, up to 1."),
    "blockiness": ("Blockiness", "Steps of luma at the borders of blocks over those inside; 1 is none."),
    "noise": ("Noise", "Standard deviation, in steps of 8 bits."),
    "flow_px_s": ("Optical flow", "Mean, in pixels of the video a second."),
    "camera_px_s": ("Camera motion", "The part of the flow that is the camera's, in pixels a second."),
    "object_px_s": ("Object motion", "What flow is left without the camera's, in pixels a second."),
    "text_area": ("Text", "Share of the picture under lines of text that stay."),
    "aesthetic": ("Aesthetic", "On the scale of the head's weights, about 1 to 10."),
    "text_video_match": ("Caption match", "Cosine between the caption and stills."),
    "nsfw": ("NSFW", "Probability, 0 to 1."),
    "watermark": ("Watermark", "Probability, 0 to 1."),
    "faces": ("Faces", "Most faces in a still."),
    "detected_text_area": ("Detected text", "Share of the picture that a text detector marks."),
    "niqe": ("NIQE", "Lower is more natural."),
    "source_fps": ("Frames a second", "Of the video, by what its frames say."),
    "source_s": ("Length of the video", "In seconds."),
}


def named(name: str) -> str:
    """A name of the code as words: "min_motion" as "Min motion"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
