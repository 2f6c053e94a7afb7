"""What lesions do to a model, from recorded scores."""
