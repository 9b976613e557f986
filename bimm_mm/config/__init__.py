"""From the name of a config to a checked one; nothing here trains."""
