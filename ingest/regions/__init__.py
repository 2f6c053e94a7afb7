"""Regions applied to a model: lesions, scores beside random controls, sweeps, frozen training."""
