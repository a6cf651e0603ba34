"""Options of ``secagg plan``: a round as its operator thinks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Clients = Annotated[int, typer.Option(min=2, help="Clients in the frozen roster.")]
Values = Annotated[int, typer.Option(min=1, help="Coordinates of an update; the weight is one more.")]
Corrupt = Annotated[float, typer.Option(help="Fraction of clients that may work with the coordinator.")]
Dropout = Annotated[float, typer.Option(help="Fraction of clients that may vanish, at any moment.")]
Least = Annotated[
    int | None, typer.Option(min=2, help="Fewest clients in a sum. Without: as many as must confirm anyway.")
]
ValueBits = Annotated[int | None, typer.Option(help="Bits of one quantised coordinate, 1 to 31. Without: 20.")]
Uplink = Annotated[float | None, typer.Option(metavar="MBIT", help="Megabits a second that a client sends.")]
HolderLink = Annotated[
    float | None,
    typer.Option(
        metavar="MBIT", help="Megabits a second that a key holder reads. Without: its transfer is in no limit."
    ),
]
Precision = Annotated[
    float | None,
    typer.Option(help="Largest error of every coordinate of the mean, in units of clip. Not reached: an error."),
]
Clip = Annotated[float, typer.Option(help="Bound of each coordinate of an update.")]
Uploading = Annotated[float, typer.Option(help="Deadline of the phase in which clients upload, in seconds.")]
Dtype = Annotated[str, typer.Option(help="Of the update's arrays, and so of the mean: float16, float32 or float64.")]
Memory = Annotated[
    float | None, typer.Option(metavar="GIB", help="Memory of the coordinator's machine. Without: this one's.")
]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="File of `secagg plan calibrate`. Without: the one in the cache.")
]
Holders = Annotated[int, typer.Option(help="Key holders, 3 to 9.")]
Threshold = Annotated[int, typer.Option(help="Key holders that open a sum.")]
Preset = Annotated[str, typer.Option(help="Ring of CKKS: ckks-4096, or ckks-8192 for more precision.")]
Packing = Annotated[
    str | None,
    typer.Option(help="Where values lie: coefficients, or slots (complex, real), which hide less. Without: a job's."),
]
