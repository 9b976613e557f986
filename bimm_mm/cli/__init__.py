"""Commands: arguments and messages."""
