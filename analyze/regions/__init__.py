"""Regions of a model's parameters: selected by importance, compared, and what their lesions do."""
