"""SAMs small enough to train in a test, with weights drawn at random."""

from __future__ import annotations

from dataclasses import replace

from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam import medsam, mobile_sam, sam
from napari_sam.models.sam.decoder import SamNetwork
from napari_sam.models.sam.decoder_config import DecoderConfig
from napari_sam.models.torch_model import TorchModel

SIDE = 64


def small_sam(seed: int = 0) -> TorchModel:
    """SAM with a plain vision transformer of three blocks, one of them global."""
    import torch

    config = sam.ViTConfig(
        side=SIDE, dim=32, heads=2, window=3, windowed=(True, False, True),
        mlp_dim=64, out_dim=32,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SamNetwork(sam.ImageEncoder(config), _decoder())
        for block in network.image_encoder.blocks:  # zero in a fresh network
            torch.nn.init.normal_(block.attn.rel_pos_h, std=0.1)
            torch.nn.init.normal_(block.attn.rel_pos_w, std=0.1)
    return _model(network, "small_sam")


def small_medsam() -> TorchModel:
    """Read the small SAM as MedSAM: for boxes, on stretched windows."""
    plain = small_sam()
    spec = replace(
        plain.spec, stretches=True, prompts=frozenset({"box"}), source="medsam:none.pth"
    )
    return medsam.MedSam(plain.network, spec, "cpu")


def small_mobile_sam(seed: int = 0) -> TorchModel:
    """MobileSAM whose stages have one block each."""
    import torch

    config = mobile_sam.TinyViTConfig(
        dims=(8, 16, 16, 24), depths=(1, 1, 2, 1), heads=(0, 2, 2, 3),
        windows=(0, 3, 3, 3), out_dim=32,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SamNetwork(mobile_sam.TinyViT(config), _decoder())
    return _model(network, "small_mobile_sam")


def _decoder() -> DecoderConfig:
    return DecoderConfig(
        side=SIDE, grid=SIDE // 16, dim=32, inner=16, mlp_dim=64, mask_channels=8
    )


def _model(network: SamNetwork, name: str) -> TorchModel:
    network.eval().requires_grad_(False)
    return TorchModel.of(network, ModelSpec(name, 0, {}, 0, ""), "", "cpu")
