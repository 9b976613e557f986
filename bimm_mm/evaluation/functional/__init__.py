"""From features to numbers: probes and nearest neighbors."""
