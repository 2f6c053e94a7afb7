"""The only room that does statistics. It reads from the store and never runs a model: no torch here."""
