"""What the inventory says of the whole fleet: the model that every other package reads."""
