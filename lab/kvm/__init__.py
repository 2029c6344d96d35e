"""Virtual machines as hosts, for what containers cannot show: kernels, disks, reboots."""
