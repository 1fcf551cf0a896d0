"""Examples of a kind of objects, from one image or many, as a model sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.engine.pooled import pooled
from napari_sam.errors import ModelError, PromptError, reason

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

    Masks = Sequence[tuple[Plane, MaskPrompt]]

KIND = "napari-sam examples"
"""What the head of a file says it is."""
_NEAREST = 3
"""Examples, the most alike, by whose likeness a mask is judged."""
_ALONE = 0.7
"""Likeness of two objects of a kind, where one example alone cannot tell."""
_DOUBT = 0.1
"""Difference of likeness to wanted and unwanted examples that leaves a quarter open."""


@dataclass(frozen=True, eq=False)
class ExampleBank:
    """Examples of what is wanted and of what is not, N of them, for one model.

    Made by `Session.examples`. Banks add up: ``nuclei_of_a + nuclei_of_b``.
    """

    features: np.ndarray
    """(N, C) float32, each of length 1: see `napari_sam.engine.pooled.pooled`."""
    wanted: np.ndarray
    """(N,) bool: True for what is looked for, False for what is not."""
    areas: np.ndarray
    """(N,) float64, level-0 pixels."""
    names: tuple[str, ...]
    """(N,) image that each is from."""
    model: str
    """Name of the model that saw them."""
    weights: str
    """What its features depend on: hash of its weights and revision of the encoder."""

    def __len__(self) -> int:
        return len(self.wanted)

    def __repr__(self) -> str:
        n = int(self.wanted.sum())
        images = len(set(self.names))
        return (
            f"<examples seen by {self.model}: {n} wanted, {len(self) - n} not, from "
            f"{images} image{'s' * (images != 1)}>"
        )

    @classmethod
    def of(
        cls, engine: Engine, wanted: Masks, unwanted: Masks = (), *, name: str = ""
    ) -> ExampleBank:
        """Look at masks as the model does.

        Parameters
        ----------
        engine : Engine
        wanted, unwanted : sequence of (Plane, MaskPrompt)
        name : str
            Of the image.
        """
        masks = [*wanted, *unwanted]
        features = [pooled(engine, plane, mask) for plane, mask in masks]
        spec = engine.model.spec
        return cls(
            np.array(features, np.float32).reshape(len(masks), -1 if masks else 0),
            np.arange(len(masks)) < len(wanted),
            np.array([np.count_nonzero(m.mask) for _, m in masks], np.float64),
            (name,) * len(masks),
            spec.name,
            _weights(engine),
        )

    def __add__(self, other: ExampleBank) -> ExampleBank:
        """Put the examples of two banks together.

        Raises
        ------
        ModelError
            If they were seen by different models.
        """
        if not len(self) or not len(other):
            return self if len(self) else other
        if self.weights != other.weights:
            raise ModelError(_of_another(self.model, other.model))
        return ExampleBank(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.wanted, other.wanted]),
            np.concatenate([self.areas, other.areas]),
            self.names + other.names,
            self.model,
            self.weights,
        )

    def check(self, engine: Engine) -> None:
        """Make sure that a model sees things as the one of these examples did.

        Raises
        ------
        ModelError
            If it is another model, or its weights are others.
        """
        if len(self) and self.weights != _weights(engine):
            raise ModelError(_of_another(self.model, engine.model.spec.name))

    def likeness(
        self, engine: Engine, plane: Plane, masks: Sequence[MaskPrompt]
    ) -> np.ndarray:
        """Say how well masks agree with the examples.

        Parameters
        ----------
        engine : Engine
        plane : Plane
        masks : sequence of M MaskPrompt
            In level-0 pixels.

        Returns
        -------
        ndarray, (M,), float64
            0..1; 1 for what is as like them as they are among themselves, in look and
            size. Below a half for what is more like those that are not wanted.
        """
        if not masks:
            return np.zeros(0)
        seen = np.array([pooled(engine, plane, mask) for mask in masks])
        areas = np.array([np.count_nonzero(m.mask) for m in masks], np.float64)
        good = self.features[self.wanted]
        near = _nearest(seen @ good.T)
        out = np.clip(near / self._usual(), 0, 1) * self._size(areas)
        bad = self.features[~self.wanted]
        if len(bad):
            ahead = (near - _nearest(seen @ bad.T)) / _DOUBT
            out = out / (1 + np.exp(-np.clip(ahead, -50, 50)))
        return np.asarray(out)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a ``.safetensors`` file, which holds numbers and text alone.

        Raises
        ------
        PromptError
            If it cannot be written.
        """
        from safetensors.numpy import save_file

        path = Path(path).expanduser()
        if path.suffix != ".safetensors":
            path = path.with_name(path.name + ".safetensors")
        arrays = {
            "features": self.features,
            "wanted": self.wanted.astype(np.uint8),
            "areas": self.areas,
        }
        head = {
            "kind": KIND, "model": self.model, "weights": self.weights,
            "names": json.dumps(self.names),
        }  # fmt: skip
        try:
            save_file(arrays, path, metadata=head)
        except Exception as error:  # Rust's errors have no class of their own
            raise PromptError(
                f"cannot write {path} ({reason(error)}): give a place that can be "
                "written"
            ) from error
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExampleBank:
        """Read what `save` wrote; nothing in the file is executed.

        Raises
        ------
        PromptError
            If there is no such file, or it holds no examples.
        """
        from safetensors import safe_open

        path = Path(path).expanduser()
        if not path.is_file():
            raise PromptError(
                f"no examples at {path}: give a file that ExampleBank.save wrote"
            )
        try:
            with safe_open(path, framework="numpy") as f:
                head = f.metadata() or {}
                if head.get("kind") != KIND:
                    raise ValueError("it is of another kind")
                arrays = {k: f.get_tensor(k) for k in ("features", "wanted", "areas")}
            names = tuple(map(str, json.loads(head["names"])))
            bank = cls(
                arrays["features"].astype(np.float32), arrays["wanted"] > 0,
                arrays["areas"].astype(np.float64), names, head["model"],
                head["weights"],
            )  # fmt: skip
            bank._check_shapes()
        except Exception as error:  # whatever odd files make of it
            raise PromptError(
                f"{path} holds no examples ({reason(error)}): give a file that "
                "ExampleBank.save wrote"
            ) from error
        return bank

    def _check_shapes(self) -> None:
        n = len(self.names)
        fits = self.wanted.shape == self.areas.shape == (n,)
        if not fits or self.features.ndim != 2 or len(self.features) != n:
            raise ValueError("its arrays do not fit each other")
        if not np.isfinite(self.features).all() or not (self.areas > 0).all():
            raise ValueError("it holds values that no object has")

    def _usual(self) -> float:
        """How like each other the wanted examples are."""
        good = self.features[self.wanted]
        if len(good) < 2:
            return _ALONE
        alike = good @ good.T
        np.fill_diagonal(alike, -np.inf)
        best = np.sort(alike, 1)[:, ::-1][:, : min(_NEAREST, len(good) - 1)]
        return float(np.clip(np.median(best.mean(1)), 0.3, 0.95))

    def _size(self, areas: np.ndarray) -> np.ndarray:
        """How usual areas are: 1 for those of the examples, .6 for e times as much."""
        known = np.log(self.areas[self.wanted])
        spread = max(1.0, float(np.ptp(known)))
        beyond = np.maximum(np.log(areas) - known.max(), known.min() - np.log(areas))
        return np.asarray(np.exp(-0.5 * (np.maximum(beyond, 0) / spread) ** 2))


def _nearest(likeness: np.ndarray) -> np.ndarray:
    """(M, N) -> (M,): mean of the few greatest of each row."""
    few = np.sort(likeness, 1)[:, ::-1][:, :_NEAREST]
    return np.asarray(few.mean(1), np.float64)


def _weights(engine: Engine) -> str:
    spec = engine.model.spec
    return f"{spec.name} {spec.sha256} {spec.encoder_revision}"


def _of_another(model: str, other: str) -> str:
    return (
        f"these examples were seen by {model} and {other} would see them differently: "
        f"use {model}, or make the examples again with {other}"
    )
