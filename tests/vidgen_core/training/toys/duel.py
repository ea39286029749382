"""Two players: a critic that takes two turns a step, a generator that must meet the updated critic, and statistics."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from vidgen_core.chance import Chance
from vidgen_core.interfaces import Batch, Frozen, Learner, Player, Space, Work
from vidgen_core.layers.across import BatchNorm


class Config(Frozen):
    """Sizes, and whether the generator keeps statistics."""

    hidden: int = 6
    normalize: bool = True

    def build(self, space: Space) -> "Duel":
        return Duel(self, space)


class Duel(Learner):
    """A tiny adversarial pair."""

    reads_text = False

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.seen_critic: list[float] = []
        self.generator = nn.Sequential(
            nn.Conv3d(space.channels, config.hidden, 1),
            BatchNorm(config.hidden) if config.normalize else nn.SiLU(),
            nn.Conv3d(config.hidden, space.channels, 1),
        )
        self.critic = nn.Conv3d(space.channels, 1, 3, padding=1)

    def players(self) -> Mapping[str, Player]:
        return {
            "critic": Player(dict(self.critic.named_parameters()), relative_rate=2.0, betas=(0.0, 0.9)),
            "generator": Player(dict(self.generator.named_parameters())),
        }

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        for turn in range(2):
            noise = chance.within(turn).normal("noise", batch.index, batch.video.shape[1:])
            fake = self.generator(noise).detach()
            self.seen_critic.append(self.critic.weight.sum().item())
            yield "critic", (self.critic(fake) - self.critic(batch.video)).mean() + self.critic.weight.square().mean()
        noise = chance.normal("noise", batch.index, batch.video.shape[1:])
        self.seen_critic.append(self.critic.weight.sum().item())
        yield "generator", -self.critic(self.generator(noise)).mean()

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        del text_tokens
        places = shape[1] * shape[2] * shape[3]
        generator = 2.0 * places * (self.generator[0].weight.numel() + self.generator[2].weight.numel())
        critic = 2.0 * places * self.critic.weight.numel()
        # Two turns of the critic on made and real clips, then one of the generator through it.
        return Work(2 * (generator + 4 * critic) + 3 * generator + 2 * critic, places)

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        return {"loss": self.critic(batch.video).flatten(1).mean(1)}
