"""The models known by name: where their files are, their licences, whom to cite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_sam.models import download as _download

_SAM_CITATION = "Kirillov et al., Segment Anything, ICCV 2023, arXiv:2304.02643"
_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM2_CITATION = (
    "Ravi et al., SAM 2: Segment Anything in Images and Videos, 2024, arXiv:2408.00714"
)
_SAM3_CITATION = (
    "Carion et al., SAM 3: Segment Anything with Concepts, 2025, arXiv:2511.16719"
)
_SAM3_PAGE = "https://huggingface.co/facebook/sam3"
_HQ_URL = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
_MICRO_SAM_URL = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
_FAST_SAM_URL = "https://github.com/ultralytics/assets/releases/download/v8.3.0/"
_SAM2_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that `load_model` knows by name."""

    name: str
    family: str
    """Which code runs it, as in `napari_sam.models.registry.FAMILIES`."""
    summary: str
    input_side: int
    size_bytes: int
    """Of the file; approximate where its authors do not publish it."""
    license: str
    """SPDX identifier of the weights' licence; "NOASSERTION" where it is not sure."""
    citation: str
    url: str = ""
    """Where the file comes from; "" for one that ships with the package."""
    sha256: str = ""
    """"" where its authors publish none; it is recorded when the file is first used."""
    checksum: str = ""
    """Another hash that is published instead, such as "md5:..." or "xxh128:..."."""
    file: str = ""
    """Name in the cache, or whole path; the last part of `url` where not given."""
    prompts: frozenset[str] = frozenset({"points", "box", "mask"})
    terms: str = ""
    """Where the licence is to be read, and accepted before the weights can be had."""
    conditions: str = ""
    """What that licence asks that others do not, in a few words."""

    @property
    def path(self) -> Path:
        """Where the file is, or will be once downloaded."""
        if not (self.url or self.file):
            return Path(__file__).parents[1] / "weights" / f"{self.name}.safetensors"
        return _download.cache_folder() / (self.file or self.url.rsplit("/", 1)[1])

    @property
    def digest(self) -> str:
        """Published hash to check a download with, such as "sha256:..."; or ""."""
        return f"sha256:{self.sha256}" if self.sha256 else self.checksum

    @property
    def cached(self) -> bool:
        """Whether the file is on this machine."""
        return self.path.is_file()

    @property
    def where(self) -> str:
        """Where the file is, for lists.

        "here", "to download", "fetch by hand" (there is no hash to check a download
        with), or "missing" for an own file that went away.
        """
        if self.cached:
            return "here"
        if not self.url:
            return "missing"
        return "to download" if self.digest else "fetch by hand"

    @property
    def by_hand(self) -> str:
        """How a person fetches weights that no hash is published for."""
        return (
            f"{self.name} is not here, and its authors publish no hash to check a "
            f"download with: get {self.url} yourself and put it at {self.path}"
        )

    @property
    def notice(self) -> str:
        """What a user should read before the first download."""
        licence = (
            f"Weights under terms of their own ({self.conditions}), to be accepted at "
            f"{self.terms}"
            if self.terms
            else "Read its authors' page for the licence of the weights"
            if self.license in ("", "NOASSERTION")
            else f"Weights under {self.license}: "
            f"https://spdx.org/licenses/{self.license}.html"
        )
        cite = f" If you publish results, please cite {self.citation}."
        return (
            f"{self.name}: {self.summary}, {self.size_bytes / 1e6:.0f} MB from "
            f"{self.url or self.file or 'this package'}. {licence}."
            f"{cite if self.citation else ''}"
        )


def _hq(name: str, summary: str, file: str, size_bytes: int, md5: str) -> KnownModel:
    return KnownModel(
        name=name,
        family="hq_sam",
        summary=summary,
        input_side=1024,
        size_bytes=size_bytes,
        license="Apache-2.0",
        citation=(
            "Ke et al., Segment Anything in High Quality, NeurIPS 2023, "
            "arXiv:2306.01567"
        ),
        url=f"{_HQ_URL}{file}",
        checksum=f"md5:{md5}" if md5 else "",
    )


def _fast_sam(size: str, summary: str, size_bytes: int) -> KnownModel:
    return KnownModel(
        name=f"fast_sam_{size}",
        family="fast_sam",
        summary=summary,
        input_side=1024,
        size_bytes=size_bytes,
        license="AGPL-3.0-only",
        citation="Zhao et al., Fast Segment Anything, 2023, arXiv:2306.12156",
        url=f"{_FAST_SAM_URL}FastSAM-{size}.pt",
    )


def _micro_sam(name: str, summary: str, path: str, xxh128: str) -> KnownModel:
    base = name.startswith("vit_b")
    return KnownModel(
        name=name,
        family="sam" if base else "mobile_sam",
        summary=summary,
        input_side=1024,
        size_bytes=375_000_000 if base else 40_700_000,
        license="NOASSERTION",
        citation=(
            "Archit et al., Segment Anything for Microscopy, Nature Methods 2025, "
            "doi:10.1038/s41592-024-02580-4"
        ),
        url=f"{_MICRO_SAM_URL}{path}",
        checksum=f"xxh128:{xxh128}",
        file=f"micro_sam_{name}.pt",
    )


def _sam2(name: str, summary: str, path: str, size_bytes: int, sha: str) -> KnownModel:
    return KnownModel(
        name=name,
        family="sam2",
        summary=summary,
        input_side=1024,
        size_bytes=size_bytes,
        license="Apache-2.0",
        citation=_SAM2_CITATION,
        url=f"{_SAM2_URL}{path}.pt",
        sha256=sha,
    )


KNOWN = (
    KnownModel(
        name="nano",
        family="nano",
        summary="napari-sam's own small model, ready without a download",
        input_side=512,
        size_bytes=6_000_000,
        license="Apache-2.0",
        citation="napari-sam",
    ),
    KnownModel(
        name="mobile_sam",
        family="mobile_sam",
        summary="MobileSAM, SAM's decoder on a TinyViT encoder",
        input_side=1024,
        size_bytes=40_700_000,
        license="Apache-2.0",
        citation=(
            "Zhang et al., Faster Segment Anything: Towards Lightweight SAM for Mobile "
            "Applications, 2023, arXiv:2306.14289"
        ),
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    KnownModel(
        name="sam_vit_b",
        family="sam",
        summary="SAM with its base encoder",
        input_side=1024,
        size_bytes=375_042_383,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    KnownModel(
        name="sam_vit_l",
        family="sam",
        summary="SAM with its large encoder",
        input_side=1024,
        size_bytes=1_249_500_000,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    KnownModel(
        name="sam_vit_h",
        family="sam",
        summary="SAM with its huge encoder",
        input_side=1024,
        size_bytes=2_564_550_879,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    _hq(
        "hq_sam_light",
        "Light HQ-SAM, finer outlines on a TinyViT encoder",
        "sam_hq_vit_tiny.pth",
        42_500_000,
        "",
    ),
    _hq(
        "hq_sam_vit_b",
        "HQ-SAM with SAM's base encoder, for finer outlines",
        "sam_hq_vit_b.pth",
        379_300_000,
        "c6b8953247bcfdc8bb8ef91e36a6cacc",
    ),
    _hq(
        "hq_sam_vit_l",
        "HQ-SAM with SAM's large encoder, for finer outlines",
        "sam_hq_vit_l.pth",
        1_254_800_000,
        "08947267966e4264fb39523eccc33f86",
    ),
    _hq(
        "hq_sam_vit_h",
        "HQ-SAM with SAM's huge encoder, for finer outlines",
        "sam_hq_vit_h.pth",
        2_571_000_000,
        "3560f6b6a5a6edacd814a1325c39640a",
    ),
    KnownModel(
        name="tinysam",
        family="tinysam",
        summary="TinySAM, MobileSAM's network distilled with harder prompts",
        input_side=1024,
        size_bytes=40_700_000,
        license="Apache-2.0",
        citation=(
            "Shu et al., TinySAM: Pushing the Envelope for Efficient Segment Anything "
            "Model, AAAI 2025, arXiv:2312.13789"
        ),
        url="https://github.com/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth",
    ),
    KnownModel(
        name="medsam",
        family="medsam",
        summary="MedSAM, SAM's base encoder trained on medical images; boxes only",
        input_side=1024,
        size_bytes=375_000_000,
        license="Apache-2.0",
        citation=(
            "Ma et al., Segment anything in medical images, Nature Communications "
            "2024, arXiv:2304.12306"
        ),
        url="https://drive.google.com/drive/folders/1ETWmi4AiniJeWOt6HAsYgTjYv_fkgzoN",
        file="medsam_vit_b.pth",
        prompts=frozenset({"box"}),
    ),
    _micro_sam(
        "vit_t_lm",
        "micro-sam's TinyViT for light microscopy",
        "faithful-chicken/1.1/files/vit_t.pt",
        "72ec5074774761a6e5c05a08942f981e",
    ),
    _micro_sam(
        "vit_t_em",
        "micro-sam's TinyViT for organelles in electron microscopy",
        "greedy-whale/1/files/vit_t.pt",
        "253474720c497cce605e57c9b1d18fd9",
    ),
    _micro_sam(
        "vit_b_lm",
        "micro-sam's ViT-B for light microscopy",
        "diplomatic-bug/1.2/files/vit_b.pt",
        "fe9252a29f3f4ea53c15a06de471e186",
    ),
    _micro_sam(
        "vit_b_em",
        "micro-sam's ViT-B for organelles in electron microscopy",
        "noisy-ox/1.2/files/vit_b.pt",
        "f3bf2ed83d691456bae2c3f9a05fb438",
    ),
    _sam2(
        "sam2.1_hiera_t",
        "SAM 2.1 with its tiny encoder",
        "092824/sam2.1_hiera_tiny",
        156_008_466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    _sam2(
        "sam2.1_hiera_s",
        "SAM 2.1 with its small encoder",
        "092824/sam2.1_hiera_small",
        184_400_000,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    _sam2(
        "sam2.1_hiera_b+",
        "SAM 2.1 with its base plus encoder",
        "092824/sam2.1_hiera_base_plus",
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    _sam2(
        "sam2.1_hiera_l",
        "SAM 2.1 with its large encoder",
        "092824/sam2.1_hiera_large",
        898_083_611,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
    _sam2(
        "sam2_hiera_t",
        "SAM 2.0 with its tiny encoder",
        "072824/sam2_hiera_tiny",
        155_900_000,
        "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    ),
    _sam2(
        "sam2_hiera_s",
        "SAM 2.0 with its small encoder",
        "072824/sam2_hiera_small",
        184_300_000,
        "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    ),
    _sam2(
        "sam2_hiera_b+",
        "SAM 2.0 with its base plus encoder",
        "072824/sam2_hiera_base_plus",
        323_500_000,
        "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    ),
    _sam2(
        "sam2_hiera_l",
        "SAM 2.0 with its large encoder",
        "072824/sam2_hiera_large",
        897_900_000,
        "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    ),
    KnownModel(
        name="medsam2",
        family="medsam2",
        summary="MedSAM2, SAM 2.1 tiny trained on CT, MRI and ultrasound",
        input_side=512,
        size_bytes=156_000_000,
        license="NOASSERTION",
        citation=(
            "Ma et al., MedSAM2: Segment Anything in 3D Medical Images and Videos, "
            "2025, arXiv:2504.03600"
        ),
        url="https://huggingface.co/wanglab/MedSAM2/resolve/main/MedSAM2_latest.pt",
    ),
    KnownModel(
        name="sam3",
        family="sam3",
        summary="SAM 3: finds all instances of what a word names, and reads clicks",
        input_side=1008,
        size_bytes=3_440_000_000,
        license="NOASSERTION",
        citation=_SAM3_CITATION,
        url=f"{_SAM3_PAGE}/resolve/main/model.safetensors",
        file="sam3/model.safetensors",
        prompts=frozenset({"points", "box", "mask", "text"}),
        terms=_SAM3_PAGE,
        conditions=(
            "the SAM License: no military or ITAR-controlled use, no reverse "
            "engineering"
        ),
    ),
    _fast_sam("s", "FastSAM, all instances in one pass, small", 23_800_000),
    _fast_sam("x", "FastSAM, all instances in one pass, large", 138_000_000),
)
