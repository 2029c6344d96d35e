"""Virtual machines with kernels of their own, as hosts to prove the site on what containers cannot show."""
