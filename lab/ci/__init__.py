"""What passes judgement on the kit: which steps there are, how each is run and counted, and the verdict on all of them."""
