"""This machine: its processor, the cores and memory of this process, memory-mapped files, the cache on disk."""
