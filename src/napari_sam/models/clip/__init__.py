"""CLIP and SigLIP: how well words fit pictures, for models that read no words."""
