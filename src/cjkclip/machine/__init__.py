"""This machine: its processor, the cores and the memory that this process may use, mapped files, the cache on disk."""
