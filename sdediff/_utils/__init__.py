"""Helpers that know no diffusion: tensors, files, progress, the machine, names."""
