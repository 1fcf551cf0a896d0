"""Coded terms of classes, as DICOM, Slicer and their vocabularies write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.objects import ObjectClass

if TYPE_CHECKING:
    from collections.abc import Mapping

CATEGORY = ("123037004", "SCT", "Body structure")
"""Category of every segment."""
ANYTHING = ("85756007", "SCT", "Tissue")
"""What an object without a class counts as."""
_KNOWN = ("SCT", "FMA", "RADLEX", "UMLS", "UBERON", "LN", "DCM", "NCIt", "MSH", "GO")
"""Schemes that DICOM gives a name, those first that its readers know best."""


def term_of(known: ObjectClass | None) -> tuple[str, str, str]:
    """Return (value, scheme, meaning) of a class.

    A class without a code gets one of its own in a private scheme, as DICOM asks.

    Examples
    --------
    >>> term_of(ObjectClass("liver", codes={"SCT": "10200004"}))
    ('10200004', 'SCT', 'liver')
    >>> term_of(ObjectClass("my cells"))
    ('my cells', '99NAPARISAM', 'my cells')
    """
    if known is None:
        return ANYTHING
    schemes = sorted(known.codes, key=lambda s: (s not in _KNOWN, s))
    for scheme in sorted(schemes, key=lambda s: _KNOWN.index(s) if s in _KNOWN else 99):
        value = str(known.codes[scheme])
        if 0 < len(value) <= 16 and 0 < len(scheme) <= 14:
            listed = scheme in _KNOWN or scheme.startswith("99")
            return value, scheme if listed else f"99{scheme}", known.name[:64]
    return known.name[:16], "99NAPARISAM", known.name[:64]


def concept_of(known: ObjectClass | None) -> tuple[Any, Any]:
    """Return category and type of a segment as highdicom's concepts."""
    from highdicom.sr import CodedConcept

    value, scheme, meaning = term_of(known)
    return CodedConcept(*CATEGORY), CodedConcept(value, scheme, meaning)


def class_from(value: str, scheme: str, meaning: str) -> ObjectClass | None:
    """Return the class of a term; None for that of objects without a class."""
    if (value, scheme) == ANYTHING[:2] or not meaning:
        return None
    codes: Mapping[str, str] = {} if scheme == "99NAPARISAM" else {scheme: value}
    return ObjectClass(meaning, codes=codes)


def class_of(sequence: Any) -> ObjectClass | None:
    """Return the class that a DICOM code sequence names, or None."""
    if not sequence:
        return None
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    scheme = item.get("CodingSchemeDesignator") or ""
    return class_from(str(value), str(scheme), str(item.get("CodeMeaning") or ""))
