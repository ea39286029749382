"""What the laws are asked of: every family, and every codec and encoder that can learn, found in their folders."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from vidgen_core import discovery
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.interfaces import Batch, Learner, Space, VideoEncoder
from vidgen_core.training import loop
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

SPACE = Space(channels=4, frames=3, height=8, width=8, text_dim=64)
CAPTIONS = ["a red square moves left", "a blue circle moves up", "a green triangle", "a red circle moves right"]
ENCODER = HashedWords.tiny().build()


def _learns(name: str) -> bool:
    """Whether an encoder's file holds a learner; the others need weights of others, or none."""
    module = discovery.load("vidgen_core.encoders", name)
    return any(isinstance(one, type) and one.__module__ == module.__name__ and issubclass(one, Learner)
               for one in vars(module).values())  # fmt: skip


FAMILIES = [("families", name) for name in discovery.names("vidgen_core.families")]
ENCODERS = [("encoders", name) for name in discovery.names("vidgen_core.encoders") if _learns(name)]
CODECS = [("codecs", name) for name in discovery.names("vidgen_core.codecs")]


@dataclass(frozen=True)
class Subject:
    """One learner under examination.

    Its weights are moved off their start, where zeros hide what a condition does.
    """

    build: Callable[[], Learner]
    shape: tuple[int, int, int, int]
    reads_text: bool
    labels: tuple[str, ...] = ()
    joins_samples: bool = False

    def learner(self) -> Learner:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            learner = self.build()
            with torch.no_grad():
                for parameter in learner.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        return learner

    def batch(self, count=4, first=0) -> Batch:
        """The samples `first` and on of a stream, smooth in space and time; a sample is the same in every batch."""
        numbers = range(first, first + count)
        rows = [self._smooth(torch.Generator().manual_seed(number)) for number in numbers]
        text = ENCODER.encode([CAPTIONS[number % 4] for number in numbers]) if self.reads_text else None
        labels = {name: torch.tensor([float(number % 3) for number in numbers]) for name in self.labels}
        return Batch(torch.stack(rows), text, torch.tensor(list(numbers)), labels)

    def _smooth(self, generator) -> torch.Tensor:
        channels, *size = self.shape
        coarse = torch.rand(1, channels, 2, 2, 2, generator=generator) * 2 - 1
        return torch.nn.functional.interpolate(coarse, tuple(size), mode="trilinear", align_corners=True)[0]

    def settings(self, **changes) -> TrainSettings:
        plain = {"steps": 1000, "batch": 4, "learning_rate": 3e-3, "warmup_steps": 0, "schedule": "constant"}
        return TrainSettings(**{**plain, **changes})

    def state(self, settings: TrainSettings) -> loop.State:
        return loop.State(self.learner(), settings)

    @staticmethod
    def train(state, settings, chance, batches):
        """Take the steps of some batches, each a list of pieces."""
        return list(loop.run(state, batches, chance=chance, settings=settings, place=Place()))


def _subject(kind: str, name: str) -> Subject | None:
    config = discovery.load(f"vidgen_core.{kind}", name).Config
    if kind == "families":
        module = config.tiny().build(SPACE)
        return Subject(lambda: config.tiny().build(SPACE), SPACE.shape, module.reads_text)
    if not hasattr(config, "tiny"):
        return None  # Nothing to learn, or weights of others that must be named.
    made = config.tiny().build()
    if not isinstance(made, Learner):
        return None
    if isinstance(made, VideoEncoder):
        return Subject(lambda: config.tiny().build(), (3, 5, 16, 16), made.reads_text, made.labels, made.joins_samples)
    side = 4 * made.space_stride
    return Subject(lambda: config.tiny().build(), (3, 1 + 2 * made.time_stride, side, side), made.reads_text)


@pytest.fixture(params=FAMILIES + CODECS + ENCODERS, ids="-".join)
def subject(request) -> Subject:
    """Every learner."""
    found = _subject(*request.param)
    if found is None:
        pytest.skip("there is nothing in it to learn")
    return found


@pytest.fixture(params=FAMILIES, ids="-".join)
def generating(request) -> Subject:
    """Every family."""
    found = _subject(*request.param)
    assert found is not None
    return found


@pytest.fixture(params=[name for _, name in FAMILIES])
def textless(request) -> Subject:
    """Every family where clips have no captions."""
    config = discovery.load("vidgen_core.families", request.param).Config.tiny()
    space = SPACE.model_copy(update={"text_dim": 0})
    return Subject(lambda: config.build(space), SPACE.shape, reads_text=False)


@pytest.fixture
def encoder():
    return ENCODER
