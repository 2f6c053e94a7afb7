"""Fits of the general linear model: from prompts' moments or from tokens, with the sandwich's variance."""
