"""A profile for the screen."""

import math

from rich.console import Console
from rich.table import Table

from jaxppo.profiling import Profile
from jaxppo.progress import count

__all__ = ["print_profile"]

COLUMNS = ("part", "time", "share", "MFLOP", "GFLOP/s", "MB", "GB/s", "peak", "shapes")

LEGEND = """\
MFLOP and MB: what the part must do in products of matrices, and must read and write, in an update.
peak: the time that this takes at the machine's highest rates, as a fraction of the time measured.
shapes: likewise at the rates of products of the same shapes, one after the other, and of copies as large.
other: the update less its parts, which are timed apart; negative where together they are faster."""


def print_profile(profile: Profile, console: Console) -> None:
    """Print compile and update time, the split of the update, and its memory."""
    limits, speed = profile.limits, count(profile.env_steps / profile.seconds)
    console.print(f"compiled in {profile.compile_seconds:.2f} s, after {profile.lower_seconds:.2f} s of tracing")
    console.print(f"an update: {_time(profile.seconds)}, {profile.env_steps} steps ({speed} steps/s)")
    if profile.memory:
        uses = ", ".join(f"{use} {_megabytes(size)} MB" for use, size in profile.memory.items())
        console.print(f"memory of the program: {uses}")
    sizes = limits.bytes_per_second
    rates = [f"{sizes[size] / 1e9:.3g} GB/s ({_size(size)})" for size in (min(sizes), max(sizes))]
    console.print(
        f"this machine: {limits.flops_per_second / 1e9:.3g} GFLOP/s ({limits.side}³), copies {' to '.join(rates)}\n"
    )
    console.print(_table(profile))
    console.print(f"\n{LEGEND}")


def _table(profile: Profile) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, no_wrap=True, justify="left" if name == "part" else "right")
    for part in profile.parts:
        table.add_row(
            part.name,
            *_cells(part.seconds, profile, part.flops, part.num_bytes, part.peak_seconds, part.shapes_seconds),
        )
    table.add_row("other", _time(profile.other_seconds), f"{profile.other_seconds / profile.seconds:.0%}")
    sums = (sum(values) for values in zip(*(part[2:] for part in profile.parts), strict=True))
    table.add_row("update", *_cells(profile.seconds, profile, *sums), style="bold")
    return table


def _cells(
    seconds: float, profile: Profile, flops: float, num_bytes: int, peak_seconds: float, shapes_seconds: float
) -> list[str]:
    known = flops > 0
    return [
        _time(seconds),
        f"{seconds / profile.seconds:.0%}",
        f"{flops / 1e6:.4g}" if known else _unknown(flops),
        f"{flops / seconds / 1e9:.3g}" if known else _unknown(flops),
        _megabytes(num_bytes),
        f"{num_bytes / seconds / 1e9:.3g}",
        _percent(peak_seconds / seconds),
        _percent(shapes_seconds / seconds),
    ]


def _unknown(flops: float) -> str:
    return "?" if math.isnan(flops) else ""


def _percent(fraction: float) -> str:
    return "?" if math.isnan(fraction) else f"{fraction:.0%}" if fraction >= 0.1 else f"{fraction:.1%}"


def _time(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.3g}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes // 2**20} MiB" if num_bytes >= 2**20 else f"{num_bytes // 2**10} KiB"
