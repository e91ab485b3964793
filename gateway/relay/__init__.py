"""The data path: from a decoded request to an engine and back, byte by byte."""
