"""Detectors and statistics with weights by path: made models with known answers, and small real ones where they are."""

import av
import numpy as np
import pytest
from scipy import io

from data_prep.score_settings import OnnxSettings, ScoreSettings, WeightsSettings
from data_prep.scorers import detected_text, faces, niqe
from vidgen_core.errors import VidgenError

pytest.importorskip("onnxruntime", reason="the extra vidgen[scores] is not installed")


def scorer(module, field, file, **options):
    kind = WeightsSettings if field == "niqe" else OnnxSettings
    return module.open_scorer(ScoreSettings(**{field: kind(weights=str(file), **options)}))


def stills(shared_data, name, at=(20, 60, 100)):
    with av.open(str(shared_data / "videos" / f"{name}.mp4")) as container:
        frames = enumerate(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for number, frame in frames if number in at]


def test_text_area_is_the_share_of_the_picture_that_the_model_marks(onnx_files, tmp_path):
    file = tmp_path / "bright.onnx"
    file.write_bytes(onnx_files.bright_detector())
    found = scorer(detected_text, "detected_text", file, threshold=0.5)
    picture = np.zeros((128, 192, 3), np.uint8)
    picture[32:64, 48:144] = 255
    assert found.score([picture], "")["detected_text_area"] == pytest.approx(32 * 96 / (128 * 192), rel=0.1)
    assert found.score([0 * picture], "")["detected_text_area"] == 0
    assert found.score([0 * picture, 0 * picture + 255], "")["detected_text_area"] == pytest.approx(0.5)


def yunet(onnx_files, places, size=64):
    outputs = {}
    for stride in (8, 16, 32):
        cells = (size // stride) ** 2
        sure, boxes = np.zeros((1, cells, 1)), np.zeros((1, cells, 4))
        for row, column, box in places.get(stride, ()):
            sure[0, row * (size // stride) + column] = 0.9
            boxes[0, row * (size // stride) + column] = box
        outputs |= {f"cls_{stride}": sure, f"obj_{stride}": sure, f"bbox_{stride}": boxes}
    return onnx_files.constant({name: array.astype(np.float32) for name, array in outputs.items()}, size)


def test_faces_are_where_the_grids_say_and_each_is_counted_once(onnx_files, tmp_path):
    file = tmp_path / "faces.onnx"
    # A face of 16 x 8 px about (20, 12), given by two neighboring cells, and one of 32 x 32 px about (48, 48).
    small = np.log([2.0, 1.0])
    cells = {8: [(1, 2, (0.5, 0.5, *small)), (1, 3, (-0.5, 0.5, *small))], 32: [(1, 1, (0.5, 0.5, 0, 0))]}
    file.write_bytes(yunet(onnx_files, cells))
    found = scorer(faces, "faces", file)
    picture = np.zeros((64, 64, 3), np.uint8)
    boxes = found.find(picture) * 64
    assert boxes[np.argsort(boxes[:, 0])] == pytest.approx(np.array([[12, 8, 28, 16], [32, 32, 64, 64]]))
    assert found.score([picture], "") == {"faces": 2.0, "face_area": pytest.approx((16 * 8 + 32 * 32) / 64**2)}
    # A wide picture is shown above an empty strip: shares are of the picture.
    wide = found.find(np.zeros((32, 64, 3), np.uint8))
    assert wide[:, 3].max() <= 1


def test_real_faces_are_found_where_opencv_finds_them(shared_weights, shared_data):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    file = shared_weights / "face" / "yunet_n_320_320.onnx"
    found = scorer(faces, "faces", file, threshold=0.6)
    picture = stills(shared_data, "overlay_subtitle", at=(20,))[0]
    with_border = np.zeros((640, 640, 3), np.uint8)
    with_border[:360] = picture
    small = cv2.resize(with_border, (320, 320), interpolation=cv2.INTER_AREA)
    theirs = cv2.FaceDetectorYN.create(str(file), "", (320, 320), 0.6, 0.3).detect(small[..., ::-1].copy())[1]
    left, top, width, height = theirs[0][:4] / [320, 180, 320, 180]
    assert found.find(picture) == pytest.approx(np.array([[left, top, left + width, top + height]]), abs=0.02)
    assert found.score(stills(shared_data, "quality_clean"), "")["faces"] == 0


def test_real_text_is_found_over_clips_and_none_in_those_without(shared_weights, shared_data):
    file = shared_weights / "text_det" / "ppocr_mobile_v1.1_det.onnx"
    found = scorer(detected_text, "detected_text", file, threshold=0.3)
    for name, there in [("overlay_subtitle", True), ("overlay_watermark", True), ("overlay_none", False)]:
        assert (found.score(stills(shared_data, name), "")["detected_text_area"] > 0.005) == there, name


@pytest.mark.parametrize("shape,draw", [(2.0, "normal"), (1.0, "laplace")])
def test_the_shape_of_known_distributions_is_recovered(shape, draw):
    values = getattr(np.random.default_rng(0), draw)(size=200_000)
    fitted, left, right = niqe.fit_generalized_normal(values)
    assert fitted == pytest.approx(shape, rel=0.03)
    assert left == pytest.approx(right, rel=0.03)


def test_a_picture_like_the_natural_ones_is_at_distance_zero_and_both_formats_say_the_same(tmp_path):
    rng = np.random.default_rng(0)
    luma = rng.normal(128, 20, (300, 400))
    seen = niqe.features(luma)
    assert seen.shape == (12, 36)
    mean, spread = seen.mean(0)[None], np.cov(seen.T)
    np.savez(tmp_path / "p.npz", mu=mean, cov=spread)
    io.savemat(tmp_path / "p.mat", {"mu": mean, "cov": spread})
    one, other = (scorer(niqe, "niqe", tmp_path / f"p.{kind}") for kind in ("npz", "mat"))
    assert one.distance(luma) == pytest.approx(0, abs=1e-4)
    far = rng.uniform(0, 255, (200, 200))
    assert one.distance(far) == pytest.approx(other.distance(far))
    assert one.distance(far) > 0.1
    assert one.score([np.zeros((90, 90, 3), np.uint8)], "") == {"niqe": None}


def test_niqe_of_each_degraded_real_clip_is_worse_than_of_its_clean_one(shared_weights, shared_data):
    found = scorer(niqe, "niqe", shared_weights / "niqe" / "niqe_image_params.mat")
    clean = found.score(stills(shared_data, "quality_clean"), "")["niqe"]
    assert 3.5 < clean < 5.5
    for kind in ("blur", "upscaled", "blocky", "noise", "dark"):
        assert found.score(stills(shared_data, f"quality_{kind}"), "")["niqe"] > clean + 1, kind


def test_wrong_files_get_a_sentence(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"not a model")
    for module, field in ((faces, "faces"), (detected_text, "detected_text")):
        with pytest.raises(VidgenError, match="onnxruntime cannot read"):
            scorer(module, field, file)
    with pytest.raises(VidgenError, match="no parameters of NIQE"):
        scorer(niqe, "niqe", file)
    with pytest.raises(VidgenError, match=r"Correct data\.scores\.faces\.weights"):
        faces.digest(ScoreSettings(faces=OnnxSettings(weights=str(tmp_path / "gone.onnx"))))
