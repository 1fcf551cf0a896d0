"""Memory of SAM 2 and SAM 3: an object followed through planes on stored embeddings.

The network looks at one plane at a time and at what it remembers of the planes it has
seen; where it would encode a plane's pixels, it is given the plane's embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_sam.errors import ModelError
from napari_sam.models.input_frame import to_candidate
from napari_sam.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.models.sam2.network import TrackingNetwork

_OBJECT = 1


class MemoryTracker:
    """Follows one object through the same window of consecutive planes.

    Parameters
    ----------
    network : TrackingNetwork
    embedding : callable
        Gives the embedding of a plane's window, by number.
    n_planes : int
        Planes there are, numbered from 0.
    resize : ResizeTransform
        Of the window's size.
    device : torch.device
    """

    def __init__(
        self,
        network: TrackingNetwork,
        embedding: Callable[[int], Embedding],
        n_planes: int,
        resize: ResizeTransform,
        device: torch.device,
    ) -> None:
        from transformers import Sam2VideoInferenceSession

        self._model, self._resize = network.model, resize
        self._predicted_iou = 0.0
        self._state = Sam2VideoInferenceSession(
            inference_device=device, inference_state_device=device, dtype=torch.float32
        )
        self._state.processed_frames = dict.fromkeys(range(n_planes))
        self._state.cache = _Features(network, embedding, device)
        self._object = self._state.obj_id_to_idx(_OBJECT)

    def condition(self, plane: int, mask: np.ndarray) -> None:
        """Teach the object as it is on a key plane.

        Parameters
        ----------
        plane : int
        mask : ndarray, (side, side), bool
            Over the model's frame.

        Raises
        ------
        ModelError
            If the mask has another size or is empty.
        """
        side = self._resize.side
        if mask.shape != (side, side) or not mask.any():
            raise ModelError(
                f"a key plane's mask is a boolean array of shape ({side}, {side}) with "
                f"at least one pixel set; got shape {mask.shape}, {mask.sum()} set"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
        self._state.add_mask_inputs(self._object, plane, pixels)
        self._state.obj_with_new_inputs = [_OBJECT]
        self._run(plane, reverse=False)

    def follow(self, plane: int, *, reverse: bool = False) -> MaskCandidate:
        """Predict the object on a plane from what is remembered of its neighbours.

        Parameters
        ----------
        plane : int
            Next to the one before: planes are visited in order from a key plane.
        reverse : bool
            Whether the order is downwards.

        Returns
        -------
        MaskCandidate
            In the window's pixels; empty where the object is not on the plane.
        """
        logits = self._run(plane, reverse=reverse)
        return to_candidate(logits, self._predicted_iou, self._resize)

    def forget(self) -> None:
        """Forget all planes but the key planes, to start in another direction."""
        self._outputs("non_cond_frame_outputs").clear()

    def _run(self, plane: int, *, reverse: bool) -> Tensor:
        """Look at one plane; (m, m) logits on the CPU."""
        note = self._model.mask_decoder.register_forward_hook(self._note_iou)
        try:
            answer = self._model(
                inference_session=self._state, frame_idx=plane, reverse=reverse
            )
        finally:
            note.remove()
        self._tidy(plane)
        logits: Tensor = answer.pred_masks[0, 0].float().cpu()
        return logits

    def _note_iou(self, module: Any, given: Any, answer: Any) -> None:
        """Keep the estimate of IoU, which transformers' tracking does not hand out."""
        self._predicted_iou = float(answer[1].max())

    def _tidy(self, plane: int) -> None:
        """Drop what no later plane reads: full-size masks, and the far past."""
        config = self._model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        passed = self._outputs("non_cond_frame_outputs")
        for number in [n for n in passed if abs(n - plane) > reach]:
            del passed[number]
        for kind in ("non_cond_frame_outputs", "cond_frame_outputs"):
            for output in self._outputs(kind).values():
                output.pop("high_res_masks", None)

    def _outputs(self, kind: str) -> dict[int, dict[str, Any]]:
        outputs: dict[int, dict[str, Any]]
        outputs = self._state.output_dict_per_obj[self._object][kind]
        return outputs


class _Features:
    """Stands where the network keeps features of planes: reads them as embeddings."""

    def __init__(
        self,
        network: TrackingNetwork,
        embedding: Callable[[int], Embedding],
        device: torch.device,
    ) -> None:
        self._embedding, self._device = embedding, device
        self._network = network
        self._last: tuple[int, dict[str, list[Tensor]]] | None = None

    def get_vision_features(self, plane: int) -> dict[str, list[Tensor]]:
        """Feature maps and position encoding of a plane, as (h * w, 1, C)."""
        if self._last is None or self._last[0] != plane:
            features = self._embedding(plane).features
            given = {
                k: torch.from_numpy(np.asarray(v, np.float32)).to(self._device)
                for k, v in features.items()
            }
            with torch.inference_mode():
                maps = self._network.maps(given)
            coarse = maps[-1][None]
            encoding = self._network.positions(
                coarse.shape, coarse.device, coarse.dtype
            )
            found = {
                "vision_feats": [_as_row(m) for m in maps],
                "vision_pos_embeds": [_as_row(encoding[0])],
            }
            self._last = plane, found
        return self._last[1]

    def cache_vision_features(self, plane: int, features: Any) -> None:
        """Never called: features are always there."""
        raise ModelError(f"transformers encoded plane {plane}, whose features exist")


def _as_row(x: Tensor) -> Tensor:
    """(C, h, w) -> (h * w, 1, C)."""
    return x.flatten(1).T[:, None]


class Remembers(TorchModel):
    """A model whose network follows objects by memory: SAM 2 and SAM 3."""

    network: Any

    def tracker(
        self,
        embedding: Callable[[int], Embedding],
        n_planes: int,
        window_size: tuple[int, int],
    ) -> MemoryTracker:
        """Return what follows one object through a window of consecutive planes.

        Parameters
        ----------
        embedding : callable
            Gives the embedding of that window of a plane, by number.
        n_planes : int
            Planes there are, numbered from 0.
        window_size : tuple of int
            (height, width) of the window in its own pixels.
        """
        resize = self._resize(window_size)
        return MemoryTracker(self.network, embedding, n_planes, resize, self._device)
