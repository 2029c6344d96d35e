"""What a fleet uses of what it has. Each limit is one line; plan prints the lines and topology refuses exceeded ones."""
