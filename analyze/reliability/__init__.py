"""Whether maps come again: between runs, and in runs left out."""
