"""The smallest application of Grunnfjell: numbered jobs, each with one effect. The drill counts with it."""
