"""The only room that runs a model: recording, lesions, scores. It knows the store, not the analyses."""
