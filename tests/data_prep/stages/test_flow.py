"""Laws of optical flow: known motions of made scenes, split into the camera's and the objects'."""

import numpy as np
import pytest
from scipy import ndimage

from data_prep.stages import flow, motion
from data_prep.view import SpanView

SCALE = 10  # source pixels in a thumbnail's pixel
RATE = 24.0


def big(seed=0, size=(600, 900), grain=14):
    rng = np.random.default_rng(seed)
    made = ndimage.gaussian_filter(rng.normal(size=size), grain)
    return 128 + 90 * made / np.abs(made).max()


def film(draw, frames=16, rotation=0):
    """A view of source pictures of 270 x 480 px that `draw(frame)` makes."""
    thumbs = [draw(t)[:270, :480].reshape(27, SCALE, 48, SCALE).mean((1, 3)) for t in range(frames)]
    rgb = np.repeat(np.stack(thumbs).round().clip(0, 255).astype(np.uint8)[..., None], 3, -1)
    size = (480, 270) if rotation % 180 else (270, 480)
    return SpanView(rgb, np.arange(frames) / RATE, {}, *size, rotation)


def pan(step, seed=0):
    ground = big(seed)
    return lambda t: np.roll(ground, (-t * step[1], -t * step[0]), (0, 1))


@pytest.mark.parametrize("step", [(0, 0), (1, 0), (-4, 0), (3, -2), (12, 5), (40, 0)])
def test_a_pan_is_the_cameras_and_its_speed_is_right(step):
    scores = flow.score(film(pan(step)))
    speed = np.hypot(*step) * RATE
    assert scores["camera_px_s"] == pytest.approx(speed, rel=0.15, abs=1)
    assert scores["flow_px_s"] == pytest.approx(speed, rel=0.15, abs=1)
    assert scores["object_px_s"] < 0.12 * speed + 1


def test_a_thing_that_moves_before_a_still_ground_is_no_camera():
    ground, thing = big(0), big(7)[:110, :160] + 30

    def draw(t):
        picture = ground.copy()
        picture[80:190, 40 + 12 * t : 200 + 12 * t] = thing
        return picture

    scores = flow.score(film(draw, frames=20))
    assert scores["object_px_s"] > 3 * scores["camera_px_s"]
    assert scores["object_px_s"] > 20


def test_a_zoom_is_the_cameras():
    ground = big(3)

    def draw(t):
        zoom = 1.01**t
        matrix = np.eye(2) / zoom
        center = np.array([135.0, 240.0])
        return ndimage.affine_transform(ground[:270, :480], matrix, center - matrix @ center, order=1, mode="nearest")

    scores = flow.score(film(draw))
    assert scores["camera_px_s"] > 20
    assert scores["object_px_s"] < 0.35 * scores["camera_px_s"]


def test_speed_is_in_pixels_of_the_stored_picture_a_second_whatever_its_rotation_and_rate():
    level, turned = flow.score(film(pan((6, 0)))), flow.score(film(pan((6, 0)), rotation=90))
    assert turned["flow_px_s"] == pytest.approx(level["flow_px_s"])
    seen = film(pan((6, 0)))
    slow = SpanView(seen.thumbs, seen.times_s * 2, {}, 270, 480)
    assert flow.score(slow)["flow_px_s"] == pytest.approx(level["flow_px_s"] / 2)


def test_flicker_is_change_but_hardly_flow():
    ground = big(1)
    flicker = film(lambda t: ground + (12 if t % 2 else 0))
    assert motion.score(flicker)["motion"] > 8
    assert flow.score(flicker)["flow_px_s"] < 0.35 * flow.score(film(pan((12, 0), 1)))["flow_px_s"]


def test_one_frame_has_no_motion_score():
    assert set(flow.score(film(pan((0, 0)), frames=1)).values()) == {None}
    assert motion.score(film(pan((0, 0)), frames=1)) == {"motion": None}
