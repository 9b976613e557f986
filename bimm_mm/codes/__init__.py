"""Codes of tokenizers on disk: their format, and how they are made."""
