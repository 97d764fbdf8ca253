"""Many devices: who they are, who runs what, and how all of them get the next bundle."""
