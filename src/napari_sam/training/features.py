"""Features of the windows that a run trains on: encoded once, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from napari_sam.core.planes import count_planes
from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.embeddings.tile_batches import Region, encode_region, stopped
from napari_sam.errors import Cancelled, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from threading import Event

    from torch import Tensor

    from napari_sam.core.planes import Plane
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.training.examples import Example
    from napari_sam.training.labelled import LabelledVolume
    from napari_sam.training.trainable import Trainable, TrainableLora


class StoredFeatures:
    """Embeddings of examples, one store an image, read when they are looked at.

    Parameters
    ----------
    trainable : Trainable
    volumes : sequence of LabelledVolume
    folder : Path
        Holds the stores; those of another checkpoint must be elsewhere.
    """

    def __init__(
        self, trainable: Trainable, volumes: Sequence[LabelledVolume], folder: Path
    ) -> None:
        self._trainable, self._volumes, self._folder = trainable, volumes, folder
        self._stores: dict[int, EmbeddingStore] = {}

    def encode(
        self,
        examples: Sequence[Example],
        cancel: Callable[[], bool] | Event | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Encode all windows that are not there yet, yielding (done, total).

        Raises
        ------
        Cancelled
            When asked to stop; what was encoded is kept.
        """
        wanted: dict[tuple[int, Plane], set[int]] = {}
        for e in examples:
            wanted.setdefault((e.source, e.plane), set()).add(e.tile.number)
        done, total = 0, sum(map(len, wanted.values()))
        yield done, total
        for (source, plane), numbers in wanted.items():
            store = self._store(source)
            there = store.numbers(plane.linear(self._volumes[source].volume.shape))
            done += len(numbers & there)
            region = Region(plane, tuple(sorted(numbers)), there & numbers)
            for n in self._encode(source, region, cancel):
                done += n
                yield done, total
            if stopped(cancel):
                raise Cancelled("training was stopped; train again to go on from here")
        yield done, total

    def __call__(self, example: Example) -> Mapping[str, Tensor]:
        """Return the features of a window, encoding it once more if it was lost."""
        store = self._store(example.source)
        linear = example.plane.linear(self._volumes[example.source].volume.shape)
        try:
            found = store.get(linear, example.tile)
        except StoreError:
            store.discard(linear, example.tile)
            found = None
        if found is None:
            region = Region(example.plane, (example.tile.number,))
            for _ in self._encode(example.source, region, None):
                pass
            found = store.get(linear, example.tile)
            assert found is not None
        return self._trainable.features(found)

    def _encode(
        self,
        source: int,
        region: Region,
        cancel: Callable[[], bool] | Event | None,
    ) -> Iterator[int]:
        volume = self._volumes[source].opened().volume  # what it decodes is not kept
        model = self._trainable.model
        made_from = EmbeddingSource.of(volume, model)
        size = 1 if model.device == "cpu" else 4
        yield from encode_region(
            made_from, self._store(source), region, batch_size=size, cancel=cancel
        )

    def _store(self, source: int) -> EmbeddingStore:
        from napari_sam.embeddings.store import EmbeddingStore

        if source not in self._stores:
            volume, model = self._volumes[source].volume, self._trainable.model
            made_from = EmbeddingSource.of(volume, model)
            # Images in memory may be told apart by their place in the list alone.
            text = json.dumps(volume.identity(), sort_keys=True, default=str)
            name = f"{source:05d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            self._stores[source] = EmbeddingStore.open(
                self._folder / name,
                made_from.signature(),
                made_from.grid(),
                count_planes(volume.shape),
                model.spec.feature_shapes,
                cache_bytes=0,
            )
        return self._stores[source]


class EncodedFeatures:
    """Features made anew each time, with gradients, by an encoder in training.

    Parameters
    ----------
    trainable : TrainableLora
    volumes : sequence of LabelledVolume
    """

    def __init__(
        self, trainable: TrainableLora, volumes: Sequence[LabelledVolume]
    ) -> None:
        self._trainable, self._volumes = trainable, volumes

    def __call__(self, example: Example) -> Mapping[str, Tensor]:
        """Read and encode a window."""
        volume = self._volumes[example.source].opened().volume
        window = example.tile.window
        return self._trainable.encoded(
            volume.intensity.apply(volume.read(example.plane, window))
        )
