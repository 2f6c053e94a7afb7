"""Pruning: neurons cut out of a model for good, and what that saves and costs."""
