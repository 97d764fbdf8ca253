"""The quantizers that a user could pick instead of ours, each behind one interface."""
