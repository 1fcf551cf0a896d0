"""SAM 2, SAM 2.1 and MedSAM2, run by transformers."""
