"""Tensors of checkpoints that pickle whole modules, without running anything in them.

`torch.save(model)` writes classes by name and, for each object, its attributes. Here no
class of the file is ever imported: an object becomes a placeholder that only holds what
was said of it, and modules become tables of their tensors. Files that name anything
outside the packages networks come from, such as ``os.system``, are refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from types import ModuleType
from typing import TYPE_CHECKING, Any

from napari_sam.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PLACES = frozenset({
    "torch", "ultralytics", "models", "segment_anything", "mobile_sam", "tinysam",
    "fastsam", "timm", "torch_em", "micro_sam", "pathlib", "argparse", "numpy",
})  # fmt: skip
"""First names of packages whose classes may occur in a file."""
_NAMED = frozenset({("builtins", "getattr"), ("__builtin__", "getattr")})
"""What methods of objects are pickled by; it is not called, as nothing else is."""
_REBUILT = frozenset({"_rebuild_tensor_v2", "_rebuild_parameter"})
_DEEPEST = 64


def read_modules(path: Path) -> Any:
    """Read a zipped checkpoint; every pickled module becomes its table of tensors.

    Parameters
    ----------
    path : Path
        As `torch.save` writes it since version 1.6.

    Returns
    -------
    object
        What the file holds, with a dict of named tensors in place of each module.

    Raises
    ------
    CheckpointError
        If the file names something that is no part of a network.
    pickle.UnpicklingError, RuntimeError and others of pickle and torch
        If it is damaged.
    """
    import torch

    with zipfile.ZipFile(path) as held:
        if any(name.endswith("/constants.pkl") for name in held.namelist()):
            raise CheckpointError(
                f"{path.name} is a TorchScript program, which is not read: expected "
                "tensors or modules. Save the model's state_dict() alone"
            )
    reader = ModuleType("restricted_pickle")
    reader.Unpickler = _unpickler(path.name)  # type: ignore[attr-defined]
    content = torch.load(
        path, map_location="cpu", weights_only=False, pickle_module=reader
    )
    return _tables(content, 0)


def _unpickler(name: str) -> type[pickle.Unpickler]:
    """Make a reader of tensors and containers, with placeholders for the rest."""
    known = _known()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, attribute: str) -> Any:
            found = known.get((module, attribute))
            if found is not None:
                return found
            known_place = module.split(".", 1)[0] in _PLACES
            if not known_place and (module, attribute) not in _NAMED:
                raise CheckpointError(
                    f"{name} names {module}.{attribute}, which is no part of a "
                    "network: expected tensors and modules; it was refused. Get the "
                    "file from its authors, or save the model's state_dict() alone"
                )
            # A class of this file alone: what a file does to it ends with the file.
            return type("Placeholder", (_Placeholder,), {"name": attribute})

    return Unpickler


class _Placeholder:
    """Holds what a file says of an object of a class that is not imported."""

    name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.said: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.said = dict(state) if isinstance(state, dict) else {}

    # Containers of a class of their own are filled by these.
    def append(self, value: Any) -> None:
        """Values of a list are not looked at."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a mapping are not looked at."""


def _known() -> dict[tuple[str, str], Any]:
    """What a file may really make, behind functions that nothing can be set on."""
    import torch

    sealed = {
        ("torch._utils", name): _sealed(getattr(torch._utils, name))
        for name in _REBUILT
    }
    plain = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): torch.Size,
        ("torch", "device"): torch.device,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }
    kinds = ("float16", "float32", "float64", "bfloat16", "int64", "int32", "uint8")
    return {**sealed, **plain, **{("torch", k): getattr(torch, k) for k in kinds}}


def _sealed(function: Callable[..., Any]) -> Any:
    class Sealed:
        __slots__ = ()

        def __call__(self, *args: Any) -> Any:
            return function(*args)

    return Sealed()


def _tables(value: Any, depth: int) -> Any:
    """Replace modules by their tensors, in mappings of any depth."""
    if isinstance(value, _Placeholder):
        table: dict[str, Any] = {}
        _collect(value, "", table, depth)
        return table or None
    if isinstance(value, dict) and depth < _DEEPEST:
        found = {k: _tables(v, depth + 1) for k, v in value.items()}
        # Averaged weights are those that their authors evaluate.
        if isinstance(found.get("ema"), dict) and found["ema"]:
            found.pop("model", None)
        return found
    return value


def _collect(module: Any, prefix: str, table: dict[str, Any], depth: int) -> None:
    import torch

    said: Mapping[str, Any] = module.said if isinstance(module, _Placeholder) else {}
    for section in ("_parameters", "_buffers"):
        held = said.get(section)
        for name, tensor in held.items() if isinstance(held, dict) else ():
            if isinstance(tensor, torch.Tensor):
                table[f"{prefix}{name}"] = tensor.detach()
    inner = said.get("_modules")
    for name, child in inner.items() if isinstance(inner, dict) else ():
        if depth < _DEEPEST:
            _collect(child, f"{prefix}{name}.", table, depth + 1)
