"""``napari-sam demo``: the whole path on real images, from file to files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from napari_sam.cli.arguments import ArgumentError
from napari_sam.cli.report import Report, load_with_progress, progress
from napari_sam.cli.samples import SAMPLES, Sample
from napari_sam.core.planes import Plane

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session import Session
    from napari_sam.volume.volume import Volume

_MARK = ".napari-sam-demo"
"""File that says: this folder's contents may be replaced by the next demo."""


def run(out: Path, *, model: str, device: str, view: bool, as_json: bool) -> None:
    """Run the demo and say where everything is."""
    from napari_sam.core.picture import below

    if view:  # rather than after all the work
        from napari_sam._napari.viewing import import_napari

        import_napari()
    report = Report(as_json)
    _prepare(out)
    report.say(f"model {model}")
    with report.timed("load") as step:
        network = load_with_progress(model, device)
        step["detail"] = f"{network.spec.name} on {network.device}"
    report.data = {"model": network.spec.name, "device": network.device, "images": []}
    pictures, sessions = [], []
    for sample in SAMPLES:
        if sample.path is None:
            report.say(
                f"{sample.title}: left out, {sample.package} is not installed "
                f"(pip install {sample.needs})"
            )
            continue
        session, picture = _show(sample, sample.path, network, out / sample.key, report)
        sessions.append((sample, session))
        pictures.append(picture)
    overview = out / "demo.png"
    below(pictures).save(overview)
    report.data["picture"] = str(overview)
    report.say(f"all pictures: {overview}")
    report.say("next: napari-sam view FILE, or napari-sam segment --help")
    report.finish()
    if view:
        _view(sessions)


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{str(out)!r} is a file: --out takes a folder")
    if out.exists() and not (out / _MARK).exists() and any(out.iterdir()):
        raise ArgumentError(
            f"{str(out)!r} holds other files: give the demo a folder of its own "
            "with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    for sample in SAMPLES:
        shutil.rmtree(out / sample.key, ignore_errors=True)


def _show(
    sample: Sample, path: Path, model: PromptableModel, out: Path, report: Report
) -> tuple[Session, Image]:
    from napari_sam.embeddings.encode import encode_volume
    from napari_sam.embeddings.opening import open_store
    from napari_sam.session import Session
    from napari_sam.volume.opening import open_volume

    out.mkdir()
    report.say(f"\n{sample.title}")
    steps: dict[str, float] = {}
    with report.timed("open") as step:
        volume = open_volume(path)
        step["detail"] = f"{volume!r}, {_spacing(volume)}"
    steps["open"] = step["seconds"]
    plane = Plane.of(volume.shape, sample.plane)
    store = out / "embeddings"
    with report.timed("embed") as step:
        with open_store(volume, model, store) as opened:
            work = encode_volume(volume, model, opened, planes=[plane])
            done, _ = progress(work, "embed", "tile")
        step["detail"] = f"{done} tile(s) into {store}"
    steps["embed"] = step["seconds"]
    session = Session(volume, model, embeddings=store)
    objects = []
    with report.timed("prompt") as step:
        for object_id, prompts in enumerate(sample.prompts, 1):
            request = session.set_prompts(object_id, plane, prompts)
            session.accept(session.run(request))
            best = session.candidates(object_id, plane)[0]
            objects.append(
                {
                    "area": best.area,
                    "predicted_iou": round(float(best.predicted_iou), 6),
                }
            )
        step["detail"] = f"{len(objects)} objects, predicted IoU " + ", ".join(
            f"{o['predicted_iou']:.2f}" for o in objects
        )
    steps["prompt"] = step["seconds"]
    files = [out / "labels.zarr", out / "objects.json", out / "picture.png"]
    with report.timed("write") as step:
        session.export(files[0])
        session.export(files[1])
        picture = panels(session, plane, sample.title)
        picture.save(files[2])
        step["detail"] = ", ".join(str(f) for f in files)
    steps["write"] = step["seconds"]
    report.data["images"].append(
        {
            "image": sample.key,
            "path": str(path),
            "objects": objects,
            "seconds": steps,
            "files": [str(f) for f in files],
        }
    )
    return session, picture


def panels(session: Session, plane: Plane, title: str, *, side: int = 420) -> Image:
    """Draw the image, the prompts and the masks of a plane side by side."""
    from napari_sam.core.picture import Picture, beside
    from napari_sam.session.notebook import draw_session, overview

    shape = plane.shape(session.volume.shape)
    rgb = overview(session.volume, plane, session.engine.intensity)
    prompted = Picture.of(rgb, shape, side=side)
    scores = []
    for one in session.objects.values():
        record = one.planes[plane]
        scores.append(f"{record.score or 0.0:.2f}")
        if record.prompts is not None:
            prompted.prompts(record.prompts)
    masks = f"masks, predicted IoU {', '.join(scores)}"
    return beside(
        [
            Picture.of(rgb, shape, side=side).finish(title),
            prompted.finish("prompts"),
            draw_session(session, plane, side=side, title=masks),
        ]
    )


def _spacing(volume: Volume) -> str:
    steps = zip(volume.axes, volume.spacing, volume.units, strict=True)
    return ", ".join(f"{a} {step:g} {unit}" for a, step, unit in steps)


def _view(sessions: list[tuple[Sample, Any]]) -> None:
    """Show each plane with its labels, side by side, and the panel."""
    import numpy as np

    from napari_sam._napari.label_writer import adopt
    from napari_sam._napari.viewing import import_napari
    from napari_sam._napari.widget import controller_of

    napari = import_napari()
    viewer = napari.Viewer(title="napari-sam demo")
    for number, (sample, session) in enumerate(sessions):
        plane = Plane.of(session.volume.shape, sample.plane)
        pixels = session.engine.intensity.apply(session.volume.plane(plane))
        # All as large as each other; napari's grid would give each new layer a cell.
        place = {
            "scale": (100 / max(pixels.shape[:2]),) * 2,
            "translate": (0, 110 * number),
        }
        image = viewer.add_image(pixels, name=sample.title, rgb=True, **place)
        labels = np.array(session.labels[plane.slicer()])
        name = f"{sample.title}, labels"
        adopt(viewer.add_labels(labels, name=name, opacity=0.4, **place), image)
    viewer.reset_view()
    controller_of(viewer)
    napari.run()
