"""SAM and the models that share its decoder: HQ-SAM, MobileSAM, MedSAM."""
