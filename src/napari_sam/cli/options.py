"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sam.results.registry import FORMATS

Source = Annotated[
    str,
    typer.Argument(help="DICOM folder, OME-Zarr (path or URL), TIFF, NIfTI, PNG ..."),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Name (see napari-sam models) or file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the encoder: float32; bfloat16 or float16 for GPUs; int8 for CPUs."
    ),
]
Axes = Annotated[
    str | None, typer.Option(help='Axes of the stored array, such as "czyx".')
]
Channels = Annotated[
    str | None, typer.Option(help="Channels to keep, such as 0 or 0,2.")
]
Series = Annotated[
    str | None, typer.Option(help="Which series of a folder or file, where several.")
]
Spacing = Annotated[
    str | None,
    typer.Option(help="Uneven DICOM slices: resample them, or keep their positions."),
]
Intensity = Annotated[
    str | None,
    typer.Option(help='Raw values shown black and white: "low,high", or a CT preset.'),
]
Axis = Annotated[str, typer.Option(help="Sliced axis: z, y or x (or 0, 1, 2).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Keep embeddings in memory only.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help=f"Of the results, where the suffix does not say: {', '.join(FORMATS)}.",
    ),
]
Out = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        "-o",
        help="Result, such as .zarr, .tif, .nii.gz, .json (COCO) or .gpkg; may be "
        "repeated. See docs/formats.md.",
    ),
]


def example(*lines: str) -> str:
    """Return the epilog of a command's help."""
    return "[bold]Example[/bold]\n\n" + "\n\n".join(lines)
