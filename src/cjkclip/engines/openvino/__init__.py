"""OpenVINO, the default engine on a CPU: graphs, their cache on disk, and int8."""
