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
_SAM2_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that `load_model` knows by name."""

    name: str
    family: str
    """Which code runs it: "nano", "sam", "mobile_sam" or "sam2"."""
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
    """"" where its authors publish none: then people fetch the file themselves."""
    prompts: frozenset[str] = frozenset({"points", "box", "mask"})

    @property
    def path(self) -> Path:
        """Where the file is, or will be once downloaded."""
        if not self.url:
            return Path(__file__).parents[1] / "weights" / f"{self.name}.safetensors"
        return _download.cache_folder() / self.url.rsplit("/", 1)[1]

    @property
    def cached(self) -> bool:
        """Whether the file is on this machine."""
        return self.path.is_file()

    @property
    def notice(self) -> str:
        """What a user should read before the first download."""
        licence = (
            "Read its authors' page for the licence of the weights"
            if self.license == "NOASSERTION"
            else f"Weights under {self.license}: "
            f"https://spdx.org/licenses/{self.license}.html"
        )
        return (
            f"{self.name}: {self.summary}, {self.size_bytes / 1e6:.0f} MB from "
            f"{self.url or 'this package'}. {licence}. If you publish results, please "
            f"cite {self.citation}."
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
        family="sam2",
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
)
