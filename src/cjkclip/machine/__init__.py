"""This machine: its processor, cores and memory that this process may use, memory-mapped files, the cache on disk."""
