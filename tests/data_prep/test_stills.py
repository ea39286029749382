"""Pictures of spans: the right frames in the right order, upright, cropped and with square pixels."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from data_prep.decode import Undecodable, open_source
from data_prep.stills import stills

FRAMES, HEIGHT, WIDTH = 60, 48, 80


def film(file, *, sar=(1, 1), frames=FRAMES):
    """Every frame gray, brighter from frame to frame, with a white left half of the upper border."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(*sar)
        for number in range(frames):
            pixels = np.full((HEIGHT, WIDTH, 3), 40 + 2 * number, np.uint8)
            pixels[:8, : WIDTH // 2] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def times(file):
    opened = open_source(file)
    with opened.container:
        return [pts for pts, _ in opened.frames()]


def span(at, start, stop, **crop):
    box = {"crop_x": 0, "crop_y": 0, "crop_w": WIDTH, "crop_h": HEIGHT} | crop
    return {"clip_id": f"{start}-{stop}", "start_pts": at[start], "stop_pts": at[stop], **box}


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)))


def shown(picture):
    """Number of the frame that a picture is of."""
    return round((float(pixels(picture)[20:].mean()) - 40) / 2)


def test_pictures_are_the_frames_in_the_middles_of_equal_parts_in_order(tmp_path):
    file = film(tmp_path / "film.mp4")
    at = times(file)
    spans = [span(at, 0, 59), span(at, 10, 50), span(at, 30, 34), span(at, 7, 7)]
    for frames in (1, 4):
        found = {one["clip_id"]: pictures for one, pictures in stills(file, spans, frames=frames, side_px=512)}
        assert found.keys() == {one["clip_id"] for one in spans}
        for one in spans:
            start, stop = (at.index(one[end]) for end in ("start_pts", "stop_pts"))
            wanted = [start + (2 * part + 1) * (stop - start) / (2 * frames) for part in range(frames)]
            got = [shown(picture) for picture in found[one["clip_id"]]]
            assert len(got) == frames
            assert all(abs(a - b) <= 1 for a, b in zip(got, wanted, strict=True)), (got, wanted)


def test_a_picture_is_the_crop_with_square_pixels_and_no_longer_than_asked(tmp_path):
    file = film(tmp_path / "wide.mp4", sar=(2, 1))
    at = times(file)
    whole, left, small = (
        pixels(next(stills(file, [one], frames=1, side_px=side))[1][0])
        for one, side in [
            (span(at, 0, 59), 512),
            (span(at, 0, 59, crop_w=40, crop_h=8), 512),
            (span(at, 0, 59), 40),
        ]
    )
    assert whole.shape == (HEIGHT, 2 * WIDTH, 3)
    assert left.shape == (8, 80, 3)
    assert left.mean() > 245
    assert small.shape == (12, 40, 3)
    tall = film(tmp_path / "tall.mp4", sar=(1, 2))
    assert pixels(next(stills(tall, [span(times(tall), 0, 9)], frames=1, side_px=512))[1][0]).shape == (96, WIDTH, 3)


def test_a_span_whose_frames_do_not_come_is_left_out(tmp_path):
    file = film(tmp_path / "film.mp4")
    at = times(file)
    late = span(at, 3, 9) | {"stop_pts": at[-1] + 10**9, "clip_id": "late"}
    assert [one["clip_id"] for one, _ in stills(file, [late, span(at, 3, 9)], frames=2, side_px=64)] == ["3-9"]
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(Undecodable):
        next(stills(tmp_path / "no.mp4", [span(at, 0, 1)], frames=1, side_px=64))
