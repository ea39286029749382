"""A family that starts from a trained one: what is taken over, kept through a break, and said when it is not there."""

import json
import shutil

import pytest
import torch

from tests.vidgen_core.training.test_fit import ALONE, interrupted
from vidgen_core import weights
from vidgen_core.errors import VidgenError
from vidgen_core.training import checkpoints
from vidgen_core.training.fit import fit
from vidgen_core.training.store import store_at

NETWORK = {"network": {"dim": 32, "depth": 1, "heads": 2}}


@pytest.fixture
def job_of(data, cases, tmp_path):
    """Makes a job of 4 steps for a family and its configuration."""

    def job(place, name, config):
        plain = cases.job(data, tmp_path / place, name=name, config=config, steps=4)
        return plain.model_copy(update={"space": plain.space.model_copy(update={"text_dim": 6})})

    return job


@pytest.fixture
def teacher_dir(job_of, tmp_path):
    """The folder of a trained generator, as far as a student reads it."""
    job = job_of("teacher", "flow_matching", NETWORK)
    fit(job, place=ALONE)
    folder = tmp_path / "generator"
    shutil.copytree(job.final_dir, folder / "family")
    config = job_config(job)
    card = {"family": "flow_matching", "config": config, "space": job.space.model_dump(mode="json")}
    (folder / "generator.json").write_text(json.dumps(card))
    return folder


def job_config(job):
    """The whole configuration of a job's family."""
    return job.build().config.model_dump(mode="json")


def student_config(folder):
    return {
        "teacher": {"name": "flow_matching", "options": NETWORK}, "teacher_weights": str(folder),
        "critic": {"widths": [8, 8], "text_dim": 8},
    }  # fmt: skip


def test_a_student_learns_from_its_teacher_and_goes_on_after_a_break(job_of, teacher_dir):
    jobs = {place: job_of(place, "diffusion_gan", student_config(teacher_dir)) for place in ("whole", "broken")}
    expected = fit(jobs["whole"], place=ALONE)
    interrupted(jobs["broken"], 3)
    assert fit(jobs["broken"], place=ALONE).weights == expected.weights
    theirs, _ = weights.load(teacher_dir / "family")
    ours, _ = weights.load(jobs["whole"].final_dir)
    assert {name.partition(".")[0] for name in ours} == {"student", "critic"}
    kept, _ = checkpoints.read(store_at(jobs["whole"].checkpoints), "step-00000004")
    assert not [name for name in kept if "teacher" in name]
    moved = torch.stack([(ours[f"student.{name}"] - value).abs().max() for name, value in theirs.items()])
    assert 0 < moved.max() < 0.1


def test_without_its_teacher_a_student_does_not_begin(job_of, tmp_path):
    with pytest.raises(VidgenError, match="no trained teacher"):
        fit(job_of("lonely", "diffusion_gan", student_config(tmp_path / "nowhere")), place=ALONE)
