"""What a real device is: a script dumps files of /proc and /sys, and from the dump comes a profile."""
