"""The contract: schema, layout, archive, catalog, provenance, and the block engine. No torch here."""
