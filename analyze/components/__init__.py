"""Networks as components: group principal components, ICA, their stability, their masks."""
