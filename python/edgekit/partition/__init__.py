"""A network over two devices: where to cut it, and how to run both parts as one."""
