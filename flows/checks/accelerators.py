"""Accelerators: what torch sees of them."""

from collections.abc import Iterator

from flows.checks._finding import Finding, State, Subject

__all__ = ["check"]


def check(_subject: Subject) -> Iterator[Finding]:
    """Each device with its memory, and whether it really computes."""
    import torch

    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} finds none"
        yield Finding(what="accelerator", state=State.ABSENT, found=f"{built}; everything works on the processor")
        return
    for place in range(torch.cuda.device_count()):
        yield _device(place)


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
