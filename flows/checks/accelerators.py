"""Accelerators: what torch sees of them."""

from collections.abc import Iterator

from flows.checks._finding import Finding, State, Subject

__all__ = ["check"]


def check(subject: Subject) -> Iterator[Finding]:
    """Each device with its memory, and whether it really computes; that there is one where the recipe asks for it."""
    import torch

    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} finds none"
        # A cluster's machines may have what this one lacks.
        asking = [] if subject.ray or subject.jobs else _asking(subject)
        if asking:
            move = f"--set {' --set '.join(f'{name}=cpu' for name in asking)}, or name a cluster that has some"
            found = f"{built}, and the recipe asks for one: {', '.join(asking)}"
            yield Finding(what="accelerator", state=State.BAD, found=found, move=move)
            return
        yield Finding(what="accelerator", state=State.ABSENT, found=f"{built}; everything works on the processor")
        return
    for place in range(torch.cuda.device_count()):
        yield _device(place)


def _asking(subject: Subject) -> list[str]:
    recipe = subject.recipe
    devices = {"training.device": recipe.training.device, "codec_training.device": recipe.codec_training.device}
    return [name for name, device in devices.items() if device == "cuda"]


def _device(place: int) -> Finding:
    import torch

    what = f"accelerator {place}"
    try:
        free, total = torch.cuda.mem_get_info(place)
        ones = torch.ones(64, 64, device=f"cuda:{place}")
        right = float((ones @ ones).sum()) == 64.0**3
    except RuntimeError as error:
        move = "Compare the driver (nvidia-smi) with the CUDA version that torch was built for"
        return Finding(what=what, state=State.BAD, found=str(error).splitlines()[0], move=move)
    found = f"{torch.cuda.get_device_name(place)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    if not right:
        return Finding(what=what, state=State.BAD, found=f"{found}; it computes wrongly", move="Take it out of service")
    half = torch.cuda.is_bf16_supported()
    move = "" if half else "Keep training.precision at fp32"
    return Finding(what=what, state=State.GOOD if half else State.DOUBTFUL, found=found, move=move)
