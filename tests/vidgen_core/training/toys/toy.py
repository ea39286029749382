"""The smallest learner that reads text, draws by chance and by torch's own generator, and may fail on command."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from vidgen_core.chance import Chance
from vidgen_core.interfaces import Batch, Frozen, Learner, Player, Space, Work


class Config(Frozen):
    """Sizes, and the positions [start, stop) at which the loss is not a number."""

    hidden: int = 8
    dropout: float = 0.5
    nan_start: int = 0
    nan_stop: int = 0

    def build(self, space: Space) -> "Toy":
        return Toy(self, space)


class Toy(Learner):
    """Guesses the clip from its noisy version and its text."""

    any_shape = True

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        self.text = nn.Linear(space.text_dim, space.channels) if space.text_dim else None
        self.net = nn.Sequential(
            nn.Conv3d(space.channels, config.hidden, 3, padding=1),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Conv3d(config.hidden, space.channels, 3, padding=1),
        )

    def players(self) -> Mapping[str, Player]:
        return {"toy": Player(dict(self.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        noise = chance.normal("noise", batch.index, batch.video.shape[1:])
        loss = self._errors(batch, noise).mean()
        bad = (batch.index >= self.config.nan_start) & (batch.index < self.config.nan_stop)
        yield "toy", loss * float("nan") if bad.any() else loss

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        noise = chance.normal("noise", batch.index, batch.video.shape[1:])
        return {"loss": self._errors(batch, noise)}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        places = shape[1] * shape[2] * shape[3]
        weights = self.net[0].weight.numel() + self.net[3].weight.numel()
        words = 0 if self.text is None else self.text.weight.numel() * text_tokens
        # The input learns by the text only.
        saved = self.net[0].weight.numel() * places if self.text is None else 0
        return Work(2.0 * (3 * weights * places + 2 * words - saved), places)

    def _errors(self, batch: Batch, noise: Tensor) -> Tensor:
        x = batch.video + noise
        if self.text is not None and batch.text is not None:
            words = (self.text(batch.text.tokens) * batch.text.mask[:, :, None]).sum(1)
            x = x + words[:, :, None, None, None]
        return (self.net(x) - batch.video).square().flatten(1).mean(1)
