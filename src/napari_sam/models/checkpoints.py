"""Checkpoint files: read without running anything in them, loaded strictly."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sam.core.short_reads import ShortReads
from napari_sam.errors import CheckpointError, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")

_WRAPPERS = (
    "model_state", "model", "state_dict", "model_state_dict", "net", "network",
    "weights", "params", "params_ema", "ema_state_dict", "ema", "teacher", "module",
)  # fmt: skip
"""Keys under which training code keeps a network's tensors, perhaps in one another."""
_PREFIXES = frozenset({
    "model", "net", "network", "sam", "sam_model", "sam2", "sam2_model", "base_model",
    "_model", "teacher", "student", "ema", "ema_model", "model_ema", "state_dict",
})  # fmt: skip
"""What training code puts before every tensor's name."""
_INSERTED = frozenset({
    "module", "_module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
})  # fmt: skip
"""What wrappers of modules (DDP, torch.compile, Fabric, FSDP) put into names."""
_BESIDE = frozenset({"n_averaged", "criterion", "loss", "loss_fn", "loss_function"})
"""First part of the names of tensors that training keeps beside the network's."""
_DEEPEST = 6


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Tensors of a checkpoint file, by their official names."""

    path: Path
    state: Mapping[str, Tensor]
    sha256: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the header of a safetensors file says besides."""

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises
        ------
        CheckpointError
            If there is no such tensor.
        """
        if key not in self.state:
            raise CheckpointError(
                f"{self.path.name} lacks the tensor {key!r}: it is not a checkpoint of "
                f"this architecture, or not a whole one. It holds {_some(self.state)}"
            )
        return tuple(self.state[key].shape)

    def count(self, prefix: str) -> int:
        """Number of children numbered 0, 1, ... under a name."""
        start = len(prefix) + 1
        found = {
            k[start:].split(".", 1)[0] for k in self.state if k[:start] == f"{prefix}."
        }
        return sum(1 for name in found if name.isdigit())

    def some_names(self) -> str:
        """The first few tensors' names, for messages."""
        return _some(self.state)


def read(path: str | Path, *, sha256: str = "") -> Checkpoint:
    """Read the tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file.

    Nothing in the file is executed: pickled files are read by torch's restricted
    reader, which builds tensors and plain containers only, or, where whole modules
    were pickled, by `pickled_modules`, which builds no more. Wrappers that training
    code adds (``{"model": ...}``, micro-sam's ``model_state`` with ``sam.`` before
    each name) are taken off.

    Parameters
    ----------
    path : str or Path
    sha256 : str
        The file's hash where it is known already; else it is computed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds something other than tensors, or could
        only be read by running code in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint file at {path}: give the path of a .safetensors, .pth or "
            ".pt file, or a name from napari_sam.list_models()"
        )
    metadata: dict[str, str] = {}
    if _is_safetensors(path):
        content, metadata = _read_safetensors(path)
    else:
        content = _read_pickled(path)
    return Checkpoint(
        path, _unwrap(content, path), sha256 or file_sha256(path), metadata
    )


def load_strict(build: Callable[[], M], checkpoint: Checkpoint) -> M:
    """Build a network and give it every tensor of a checkpoint, and nothing else.

    Parameters
    ----------
    build : callable
        Makes the network; called where tensors have shapes but no memory, so that no
        weights are drawn only to be overwritten.
    checkpoint : Checkpoint

    Raises
    ------
    CheckpointError
        With the names that are missing, unexpected, or of another shape.
    """
    import torch

    with torch.device("meta"):
        network = build()
    own = network.state_dict()
    given = checkpoint.state
    wrong = [
        f"{k} (expected {tuple(own[k].shape)}, got {tuple(v.shape)})"
        for k, v in given.items()
        if k in own and own[k].shape != v.shape
    ]
    kinds = {
        "missing": [k for k in own if k not in given],
        "unexpected": [k for k in given if k not in own],
        "of another shape": wrong,
    }
    if problems := [f"{len(v)} {k}: {_some(v)}" for k, v in kinds.items() if v]:
        raise CheckpointError(
            f"{checkpoint.path.name} does not fit {type(network).__name__}: "
            f"{'; '.join(problems)}. Check that the file is of the model asked for"
        )
    network.to_empty(device="cpu")
    network.load_state_dict(dict(given))
    return network.eval().requires_grad_(False)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as f:
        head = f.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, dict(f.metadata() or {})
    except Exception as error:  # Rust's and torch's errors share no class
        raise _damaged(path, error) from error


def _read_pickled(path: Path) -> Any:
    import warnings
    import zipfile

    import torch

    try:
        zipped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():  # of pickle protocols: read well or refused
            warnings.simplefilter("ignore", UserWarning)
            tensors_only: Any = {"map_location": "cpu", "weights_only": True}
            if zipped:
                return torch.load(path, mmap=True, **tensors_only)
            with ShortReads(path) as file:
                return torch.load(file, **tensors_only)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower():
            raise _damaged(path, error) from error
        if zipped:
            return _read_modules(path)
        raise CheckpointError(
            f"{path.name} holds Python objects besides tensors, which could only be "
            "read by running code from the file; it was refused. If you trust where it "
            "comes from, save its tensors alone in the environment it was made in: "
            "torch.save(model.state_dict(), 'weights.pth'), or safetensors"
        ) from error
    except Exception as error:  # torch raises whatever the bytes led it to
        raise _damaged(path, error) from error


def _read_modules(path: Path) -> Any:
    from napari_sam.models.pickled_modules import read_modules

    try:
        return read_modules(path)
    except CheckpointError:
        raise
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path.name} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it "
        f"is cut off, damaged, or of another kind ({reason(error)}). "
        "Download it again, or give a .safetensors, .pth or .pt file"
    )


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for _ in range(_DEEPEST):
        inner = _wrapped(content)
        if inner is None:
            break
        content = inner
    entries = dict(content) if isinstance(content, Mapping) else {}
    entries = {k: v for k, v in entries.items() if not _is_beside(str(k))}
    tensors = {str(k): v for k, v in entries.items() if isinstance(v, torch.Tensor)}
    if not tensors or len(tensors) < len(entries):
        kinds = sorted({type(v).__name__ for v in getattr(content, "values", list)()})
        raise CheckpointError(
            f"{path.name} holds no table of named tensors (a state_dict) but "
            f"{type(content).__name__}{f' of {kinds}' if kinds else ''}; expected "
            f"tensors alone, or under one of the keys {list(_WRAPPERS)}"
        )
    named = {_official(k): v for k, v in tensors.items()}
    while prefix := _common_prefix(named):
        named = {k[len(prefix) :]: v for k, v in named.items()}
    if len(named) < len(tensors):
        raise CheckpointError(
            f"{path.name} holds {len(tensors) - len(named)} tensors twice, under the "
            "names of different wrappers: save one state_dict alone"
        )
    return named


def _wrapped(content: Any) -> Any:
    if not isinstance(content, Mapping):
        return None
    found = (content.get(name) for name in _WRAPPERS)
    return next((v for v in found if isinstance(v, Mapping) and v), None)


def _is_beside(name: str) -> bool:
    return name.split(".", 1)[0] in _BESIDE or name.endswith("_extra_state")


def _official(name: str) -> str:
    """Name of a tensor without what wrappers of modules put into it."""
    return ".".join(part for part in name.split(".") if part not in _INSERTED)


def _common_prefix(names: Mapping[str, Any]) -> str:
    """Return what training code put before all names, with its dot, or nothing."""
    first = {name.split(".", 1)[0] for name in names}
    if len(first) != 1 or not first <= _PREFIXES:
        return ""
    prefix = f"{first.pop()}."
    rest = {name[len(prefix) :].split(".", 1)[0] for name in names}
    # Layers that are numbered are the network itself.
    return "" if all(part.isdigit() or not part for part in rest) else prefix


def _some(names: Any, n: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more
