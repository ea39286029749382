"""What the tests of the registry are about: a tiny generator, an evaluation, and a promotion that is killed."""

import os
import signal
import tempfile
from pathlib import Path

import torch

from vidgen_core import weights
from vidgen_core.applications import generator
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders._open import open_encoder
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.families import flow_matching
from vidgen_core.interfaces import Space
from vidgen_core.registry.gate import Evidence
from vidgen_core.registry.models import Version
from vidgen_core.registry.promotion import promote
from vidgen_core.registry.settings import GateSettings
from vidgen_core.registry.tracking import client
from vidgen_core.sampling import Sampling

SHAPE = (9, 16, 16)
CHANGES = ("create_registered_model", "create_model_version", "set_registered_model_alias", "log_model_artifact",
           "set_model_version_tag", "delete_registered_model_alias")  # fmt: skip


def generator_folder(folder, seed):
    """A generator that was never trained; its digest."""
    codec = causal_vae.Config(widths=(8, 8)).build()
    channels, frames, height, width = codec.latent_shape(*SHAPE)
    space = Space(
        channels=channels, frames=frames, height=height, width=width, text_dim=open_encoder("hashed_words", {}).dim
    )
    config = flow_matching.Config.tiny().model_dump(mode="json")
    config["network"] |= {"dim": 48, "depth": 1}
    family = flow_matching.Config.model_validate(config).build(space)
    chance = torch.Generator().manual_seed(seed)
    state = {
        name: value + torch.randn(value.shape, generator=chance) * 0.05 for name, value in family.state_dict().items()
    }
    sampling = Sampling(sampler="euler", steps=2, guidance=1.0)
    card = generator.Card(
        family="flow_matching", config=config, space=space, text="hashed_words", text_config={}, frame_rate="8",
        sampling=sampling,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as parts:
        weights.save(Path(parts) / "family", state, {})
        weights.save(
            Path(parts) / "codec", codec.state_dict(), {"name": "causal_vae", "config": codec.config.model_dump()}
        )
        return generator.assemble(folder, card, family_dir=Path(parts) / "family", codec_dir=Path(parts) / "codec")


def evaluation(value=1.0, protocol="p", n=64, **changes):
    distance = Measurement(
        name=f"rfd/n{n}", protocol=protocol, value=value, low=value - 0.1, high=value + 0.1, floor=0.1, n=n
    )
    told = {"model": "m", "data": "d", "held_out": {"loss": 0.1}, "distances": (distance,), "truth": None,
            "truth_real": None, "not_run": {}, "seconds_per_clip": 0.1}  # fmt: skip
    return Evaluation(**(told | changes))


def evidence(value=1.0, **changes):
    told = {"evaluation": evaluation(value), "settings": GateSettings(), "drawn": ""}
    return Evidence(**(told | changes))


def promoted(uri, version, value=1.0, who="t", **changes):
    return promote(uri, version, evidence(value, **changes), who=who)


def promote_and_die(uri, version, at):
    """In a process of its own: promote, and be killed before the change of that number."""
    mlflow_client = type(client(uri))
    done = 0

    def watched(change):
        def call(*arguments, **named):
            nonlocal done
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return change(*arguments, **named)

        return call

    for name in CHANGES:
        setattr(mlflow_client, name, watched(getattr(mlflow_client, name)))
    promoted(uri, Version.model_validate_json(version))


def promote_at(uri, version, gate, who):
    """In a process of its own: promote as soon as the gate opens."""
    client(uri).search_experiments()
    gate.wait()
    promoted(uri, Version.model_validate_json(version), who=who)
