"""What the inventory says of the whole fleet, and what of it cannot work: pure functions, no host, no Ansible."""
