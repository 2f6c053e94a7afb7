"""YAML as plain data: strictly read, and written so that the strict reader reads the same."""

from .strict import MAX_BYTES, decode, describe, dump, parse_mapping, read_mapping

__all__ = ["MAX_BYTES", "decode", "describe", "dump", "parse_mapping", "read_mapping"]
